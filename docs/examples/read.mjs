#!/usr/bin/env node
// Where is a service? Asks the registry, and keeps the last good answer for the time in which nobody can say.
//
//   node read.mjs NAME             prints one endpoint: exit 0; 1 it is not there; 75 nobody knows; 64 asked wrongly
//   node read.mjs NAME --every 5   goes on: one line for each look, until it is ended
//
// REGISTRY_URL: one or more registries, separated by commas (default http://127.0.0.1:8888).
// REGISTRY_READ_TOKEN: only where reads need a token.
//
// As a module: const registry = new Registry(["http://vertice-register-lb:8888"]); (await registry.find("orders")).pick()
// Needs Node 18 or later, and nothing else.

import { realpathSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const TIMEOUT = 3_000; // ms for each registry
const KEEP = 900_000; // ms for which an old answer is better than none
const FRESH = 1_000; // ms for which the registry is not asked again

// A 404 counts only in the registry's own words: a balancer's 404 says nothing about the service.
const NOT_THERE = ["/problems/unknown-service", "/problems/no-usable-instance"];

/** The registry knows that there is no usable instance. */
export class NotThere extends Error {}
/** No registry could say, and no answer is left from before. */
export class NobodyKnows extends Error {}
/** The request is wrong: a name that none can have, or no token. */
export class Refused extends Error {}

/** The usable instances, as the registry lists them; `old` says for how many ms nobody has confirmed them. */
export class Answer {
  constructor(instances, old = 0) {
    this.instances = instances;
    this.old = old;
  }

  /** One endpoint, at random among those that are not stale, as far as there are any. */
  pick() {
    const certain = this.instances.filter((one) => !one.stale);
    const list = certain.length > 0 ? certain : this.instances;
    return list[Math.floor(Math.random() * list.length)].endpoint;
  }
}

export class Registry {
  #urls;
  #headers = { accept: "application/json" };
  #known = new Map();

  constructor(urls, token) {
    this.#urls = urls.map((url) => url.replace(/\/+$/, ""));
    if (token) this.#headers.authorization = `Bearer ${token}`;
  }

  /** Where the service is. Throws NotThere, NobodyKnows or Refused. */
  async find(name) {
    const now = performance.now();
    const kept = this.#known.get(name);
    if (kept && now - kept.at < FRESH) return new Answer(kept.instances);
    const reasons = [];
    for (const url of this.#urls) {
      try {
        const instances = await this.#ask(url, name);
        this.#known.set(name, { at: now, instances });
        return new Answer(instances);
      } catch (error) {
        // Knowledge, not a fault: what was kept is no longer true.
        if (error instanceof NotThere) this.#known.delete(name);
        if (error instanceof NotThere || error instanceof Refused) throw error;
        reasons.push(`${url}: ${error.cause?.message || error.cause?.code || error.message}`);
      }
    }
    if (kept && now - kept.at < KEEP) return new Answer(kept.instances, now - kept.at);
    throw new NobodyKnows(reasons.join("; "));
  }

  async #ask(url, name) {
    const reply = await fetch(`${url}/services/${encodeURIComponent(name)}`, {
      headers: this.#headers,
      redirect: "error",
      // For the whole answer, its body included.
      signal: AbortSignal.timeout(TIMEOUT),
    });
    const body = await reply.json().catch((error) => {
      if (error.name === "TimeoutError") throw error;
      return null;
    });
    if (reply.status === 404 && NOT_THERE.includes(body?.type)) throw new NotThere(body.detail);
    if ([400, 401, 403, 422].includes(reply.status)) throw new Refused(body?.detail ?? `HTTP ${reply.status}`);
    if (reply.status !== 200) throw new Error(`HTTP ${reply.status} ${body?.detail ?? ""}`);
    if (!Array.isArray(body?.instances) || body.instances.length === 0) {
      throw new Error("HTTP 200, but not the answer of a registry");
    }
    return body.instances;
  }
}

/** One look: the exit code, and the line to print. */
async function look(registry, name) {
  try {
    const answer = await registry.find(name);
    const old = answer.old ? ` (not confirmed for ${Math.floor(answer.old / 1000)} s)` : "";
    return [0, answer.pick() + old];
  } catch (error) {
    if (error instanceof NotThere) return [1, `not there: ${error.message}`];
    if (error instanceof NobodyKnows) return [75, `nobody knows: ${error.message}`];
    if (error instanceof Refused) return [64, `refused: ${error.message}`];
    throw error;
  }
}

async function main([name, option, seconds]) {
  const every = option === "--every" ? Number(seconds) : undefined;
  if (!name || (option && !(every >= 0))) {
    console.error("usage: node read.mjs NAME [--every SECONDS]");
    return 64;
  }
  const urls = (process.env.REGISTRY_URL || "http://127.0.0.1:8888").split(",").map((url) => url.trim());
  const registry = new Registry(urls.filter(Boolean), process.env.REGISTRY_READ_TOKEN);
  for (;;) {
    const [code, line] = await look(registry, name);
    if (every === undefined) {
      (code ? console.error : console.log)(line);
      return code;
    }
    console.log(line);
    await sleep(every * 1000);
  }
}

// As a program only: who imports it wants the classes.
if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  process.exitCode = await main(process.argv.slice(2));
}
