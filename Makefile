# Everything a person does here, one target each. The longer ones are in scripts/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

CARGO ?= cargo

.PHONY: help
help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.PHONY: run
run: ## registry, sample service and its sidecar, on SQLite in ./registry.db
	$(CARGO) build --release --locked -p registry -p registry-sidecar
	exec "$${CARGO_TARGET_DIR:-target}/release/registry" dev

.PHONY: fleet
fleet: ## load a registry and judge it: FLEET='--registry http://127.0.0.1:8888 --duration 60s'
	$(CARGO) build --release --locked -p fleet
	exec "$${CARGO_TARGET_DIR:-target}/release/fleet" run $(or $(FLEET),--help)

.PHONY: test
test: ## everything that must pass before a change lands; installs what is missing where it can
	@scripts/test

.PHONY: chaos
chaos: test-setup ## the promises with real constants and full load; hours (CHAOS_ONLY=P2,P10 CHAOS_SEED=n)
	@scripts/chaos

.PHONY: test-shuffle
test-shuffle: test-setup ## the tests alone, in random order (SHUFFLE_SEED=n repeats one)
	@scripts/cargo-test --shuffle

.PHONY: test-setup
test-setup: ## install what the tests need, or say what to install
	@scripts/test-setup

.PHONY: lint
lint: ## formatting, clippy, import rules
	@scripts/lint

.PHONY: fmt
fmt: ## format the code
	$(CARGO) fmt --all

.PHONY: openapi
openapi: ## write registry/src/http/openapi.json anew, from the routes and the types
	OPENAPI_WRITE=1 $(CARGO) test --locked -p registry --lib http::document::

.PHONY: fuzz
fuzz: ## fuzz what parses strangers' input, guided by coverage (FUZZ_MINUTES=10 each, FUZZ_ONLY=bodies,calls FUZZ_JOBS=1)
	@scripts/fuzz

.PHONY: test-schema
test-schema: test-setup ## a release node against its OpenAPI document, by schemathesis (SCHEMA_EXAMPLES=300; needs PyPI)
	@scripts/test-schema

.PHONY: deny
deny: ## licences, sources and advisories of the dependencies; installs cargo-deny in target/tools
	@scripts/deny

.PHONY: dist
dist: ## static binaries in dist/, what they are made of, checksums (SIDECAR_FEATURES= : a sidecar without TLS, dist/sidecar-notls)
	@scripts/dist $(if $(filter undefined,$(origin SIDECAR_FEATURES)),,--sidecar-features '$(SIDECAR_FEATURES)')

.PHONY: images
images: ## the images vertice-registry and vertice-registry-sidecar, from dist/; no image is pulled
	@scripts/images

.PHONY: secrets
secrets: ## the secrets of docker-compose.yml in secrets/; what is there is kept
	@scripts/secrets

.PHONY: test-containers
test-containers: test-setup ## the images and compose files on this machine's Docker engine
	@scripts/test-containers

.PHONY: test-chroot
test-chroot: dist ## the binaries in dist/ in an empty root: names from hosts and DNS, SIGTERM (needs root)
	@scripts/test-chroot

.PHONY: figures
figures: dist ## measure size, memory, CPU and bytes of the binaries in dist/ (BEATS=1000 for the full run)
	@scripts/dist --sidecar-features ''
	@scripts/figures all

.PHONY: bench
bench: test-setup ## measure speed and scale and write docs/BENCHMARKS.md (BENCH_ONLY=reads,beats for some lines)
	@scripts/bench

.PHONY: flood
flood: test-setup ## throw a million registrations at a node that may hold 200,000 and write docs/FLOOD.md (two minutes)
	@BENCH_ONLY=flood BENCH_OUT=docs/FLOOD.md scripts/bench

.PHONY: soak
soak: test-setup ## half an hour of load and a verdict on what grows; writes docs/SOAK.md (SOAK_MINUTES=30)
	@scripts/soak

.PHONY: bench-sidecar
bench-sidecar: dist ## the sidecar's part of the figures
	@scripts/dist --sidecar-features ''
	@scripts/figures sidecar

.PHONY: bench-registry
bench-registry: dist ## the registry's part of the figures
	@scripts/figures registry

.PHONY: clean
clean: ## remove what was built; registry.db stays
	$(CARGO) clean
	rm -rf dist
