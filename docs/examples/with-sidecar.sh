#!/bin/sh
# Runs a service with a sidecar beside it in one container: for `--scale`, where each replica is to have an entry of
# its own. SERVICE_HOST=auto then is the replica's own address.
#
#   with-sidecar.sh COMMAND [ARGUMENT...]
#
# In the Dockerfile of the service:
#   COPY --from=vertice-registry-sidecar:latest /sidecar /sidecar
#   COPY with-sidecar.sh /with-sidecar.sh
#   ENTRYPOINT ["/with-sidecar.sh", "/my-service"]
#
# SIDECAR (default /sidecar) is the program. Ends as the service ends, with its exit code. On SIGTERM the sidecar leaves
# first, so that no reader is sent to a service that is about to end.
set -eu

[ $# -ge 1 ] || { echo "usage: with-sidecar.sh COMMAND [ARGUMENT...]" >&2; exit 64; }

"${SIDECAR:-/sidecar}" &
sidecar=$!
"$@" &
service=$!

dismiss() {
    kill -TERM "$sidecar" 2>/dev/null || true
    wait "$sidecar" || true
}

leave() {
    trap '' TERM INT
    dismiss
    kill -TERM "$service" 2>/dev/null || true
}
trap leave TERM INT

status=0
wait "$service" || status=$?
# A signal ends `wait` before the service has ended.
if kill -0 "$service" 2>/dev/null; then
    status=0
    wait "$service" || status=$?
fi
dismiss
exit "$status"
