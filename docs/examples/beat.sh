#!/bin/sh
# Registers and beats for what the sidecar cannot probe: a service without HTTP, or whose health is behind a password
# or on another port. The check is any command; it is healthy when that exits with 0.
#
#   beat.sh SERVICE INSTANCE ENDPOINT CHECK [ARGUMENT...]
#   beat.sh redis redis-1 http://redis:6379 nc -z redis 6379
#
# ENDPOINT is http://HOST:PORT or https://HOST:PORT, whatever is spoken there.
# REGISTRY_URL (default http://vertice-register-lb:8888), REGISTRY_TOKEN_FILE (default none),
# HEARTBEAT_INTERVAL (10 s; the lease is three), HEALTH_FAILURES (3; that many checks must fail in a row).
#
# Needs curl and timeout (coreutils or busybox). Ends with SIGTERM, and deregisters then.
set -eu

[ $# -ge 4 ] || { echo "usage: beat.sh SERVICE INSTANCE ENDPOINT CHECK [ARGUMENT...]" >&2; exit 64; }
service=$1 instance=$2 endpoint=$3
shift 3
for word in "$service" "$instance" "$endpoint"; do
    case $word in
        '' | *[!A-Za-z0-9._:/-]*) echo "beat.sh: '$word' has characters that it may not have" >&2; exit 64 ;;
    esac
done
interval=${HEARTBEAT_INTERVAL:-10}
failures_max=${HEALTH_FAILURES:-3}
path=${REGISTRY_URL:-http://vertice-register-lb:8888}
path=${path%/}/services/$service/instances/$instance

say() { printf '%s %s/%s: %s\n' "$(date -u +%FT%TZ)" "$service" "$instance" "$*" >&2; }

# The session names this run of this script: a call that it left behind can change nothing of a later run's.
new_session() { session=$(cat /proc/sys/kernel/random/uuid); }

# Prints the status, and leaves the answer in $answer. The token goes by standard input, where no one else sees it.
call() {
    method=$1 url=$2 body=${3-}
    {
        echo "Content-Type: application/json"
        [ -z "${REGISTRY_TOKEN_FILE-}" ] || printf 'Authorization: Bearer %s\n' "$(cat "$REGISTRY_TOKEN_FILE")"
    } | curl --silent --max-time 8 --noproxy '*' --request "$method" --header @- --output "$answer" \
        --write-out '%{http_code}' ${body:+--data "$body"} "$url" || true
}

leave() {
    trap '' TERM INT
    kill "${sleeper:-}" 2>/dev/null || true
    say "leaving: $(call DELETE "$path?session=$session")"
    rm -f "$answer"
    exit 0
}

answer=$(mktemp)
new_session
known=no
failures=$failures_max # critical until the first check is good
trap leave TERM INT

while :; do
    if timeout 5 "$@" >/dev/null 2>&1; then failures=0; else failures=$((failures + 1)); fi
    status=passing
    [ "$failures" -lt "$failures_max" ] || status=critical
    about="\"session\":\"$session\",\"status\":\"$status\""

    if [ "$known" = yes ]; then
        code=$(call PUT "$path/heartbeat" "{$about}")
    else
        code=$(call PUT "$path" "{\"endpoint\":\"$endpoint\",\"ttl_seconds\":$((interval * 3)),$about}")
    fi
    pause=$interval
    case $code in
        200 | 201)
            [ "$known" = yes ] || say "registered as $status"
            known=yes
            ;;
        404)
            # In the registry's own words it knows that we are not there: register again, as a new session. A
            # balancer's 404 says nothing.
            if grep -q /problems/unknown-instance "$answer"; then
                say "not known any more, registering again"
                new_session
                known=no
                pause=1
            fi
            ;;
        409)
            say "another process has registered this instance; looking again in 60 s"
            pause=60
            ;;
        *) say "HTTP $code: $(head -c 300 "$answer" | tr -d '\n')" ;;
    esac
    # In the background, so that a signal does not wait for its end.
    sleep "$pause" &
    sleeper=$!
    wait "$sleeper" || true
done
