#!/bin/sh
# Where is a service? Asks the registry, and keeps the last good answer for the time in which nobody can say.
#
#   read.sh NAME    prints one endpoint: exit 0; 1 it is not there; 75 nobody knows; 64 asked wrongly
#
# REGISTRY_URL: one or more registries, separated by commas (default http://127.0.0.1:8888).
# REGISTRY_READ_TOKEN: only where reads need a token.
# REGISTRY_CACHE: the directory of the kept answers (default ~/.cache/vertice-registry).
#
# Needs curl and jq.
set -eu

TIMEOUT=3 # seconds for each registry
KEEP=15   # minutes for which an old answer is better than none

say() { printf '%s\n' "$*" >&2; }
detail() { jq -r '.detail? // empty' "$body" 2>/dev/null || true; }

[ $# -eq 1 ] || { say "usage: read.sh NAME"; exit 64; }
# The name becomes a part of a path, here and at the registry.
case $1 in
    '' | [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) say "refused: '$1' is no name of a service"; exit 64 ;;
esac

cache=${REGISTRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vertice-registry}
mkdir -p "$cache"
kept=$cache/$1
body=$(mktemp "$cache/.answer.XXXXXX")
trap 'rm -f "$body"' EXIT
trap 'exit 130' INT TERM

header=
[ -z "${REGISTRY_READ_TOKEN-}" ] || header="Authorization: Bearer $REGISTRY_READ_TOKEN"

IFS=', '
for url in ${REGISTRY_URL:-http://127.0.0.1:8888}; do
    # The token goes by standard input: other users of this machine can read the arguments of a process.
    status=$(printf '%s' "$header" | curl --silent --max-time "$TIMEOUT" --noproxy '*' --output "$body" --header @- \
        --write-out '%{http_code}' "${url%/}/services/$1") || status=000
    case $status in
        200)
            # A random one of those that are not stale, as the registry picked it.
            if endpoint=$(jq -er '.endpoint | strings' "$body" 2>/dev/null); then
                printf '%s\n' "$endpoint"
                mv -f "$body" "$kept"
                exit 0
            fi
            status='200, but not the answer of a registry'
            ;;
        404)
            # Only in the registry's own words: a balancer's 404 says nothing about the service.
            case $(jq -r '.type? // empty' "$body" 2>/dev/null) in
                /problems/unknown-service | /problems/no-usable-instance)
                    say "not there: $(detail)"
                    rm -f "$kept"
                    exit 1
                    ;;
            esac
            ;;
        400 | 401 | 403 | 422)
            say "refused: $(detail)"
            exit 64
            ;;
        000) status='no answer' ;;
    esac
    say "$url: $status $(detail)"
    : >"$body"
done

if [ -n "$(find "$kept" -mmin "-$KEEP" 2>/dev/null)" ]; then
    # Another one each time, so that a dead one does not stop everybody.
    count=$(jq '.instances | length' "$kept")
    seed=$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')
    jq -r ".instances[$((seed % count))].endpoint" "$kept"
    say "not confirmed: nobody knows more at the moment"
    exit 0
fi
say "nobody knows"
exit 75
