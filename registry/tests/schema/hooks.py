"""What schemathesis does not know of the registry.

- A refused call changes nothing: the node has committed no change, and heard no beat of the instance that it names.
  The test is the only client, one call at a time, so what changes between two looks was changed by the call.
- Without a good token, nothing is written.
- What the document allows is taken, but for endpoints that keep the pattern and not the rule.
- A parameter whose name the registry does not know is passed over.

A broken rule is raised from a hook, which schemathesis reports as an error of the run. In the environment: REGISTRY_URL,
SCHEMA_TOKEN (what this file's own reads carry), SCHEMA_TOKENLESS (1: the calls carry no good token), SCHEMA_COUNTS (a
file for what was counted).
"""

import atexit
import collections
import http.client
import json
import os
import re
import urllib.parse

import schemathesis
from hypothesis import strategies as st

URL = urllib.parse.urlsplit(os.environ["REGISTRY_URL"])
TOKENLESS = os.environ.get("SCHEMA_TOKENLESS") == "1"

# What the node counts of changes that it has committed. It makes the other kinds by itself, an expiry at any time.
CHANGES = re.compile(
    rb'^registry_changes_total\{kind="(?:register|replace|status|drain|undrain|deregister)"\} (\d+)', re.MULTILINE
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

# Writings of one moment differ by less than this, in seconds; two calls are usually further apart.
SAME = 0.02

counts = collections.Counter()
reader = http.client.HTTPConnection(URL.hostname, URL.port, timeout=10)
before = {}


def ask(path, again=True):
    """A read of our own."""
    try:
        reader.request("GET", path, headers={"X-Registry-Token": os.environ["SCHEMA_TOKEN"]})
        answer = reader.getresponse()
        return answer.status, answer.read()
    except (http.client.HTTPException, OSError):
        # A kept connection may have been closed; the next request opens another.
        reader.close()
        if again:
            return ask(path, again=False)
        raise


def changes():
    """How many changes of clients there were."""
    counted = CHANGES.findall(ask("/metrics")[1])
    assert counted, "the node does not count changes"
    return sum(map(int, counted))


def target(case):
    """The path of the instance that a call names, where it names one."""
    path = case.path_parameters or {}
    body = case.body if isinstance(case.body, dict) else {}
    query = case.query if isinstance(case.query, dict) else {}
    service = path.get("service") or path.get("service_name") or body.get("service_name")
    instance = path.get("instance") or query.get("instance_id") or body.get("instance_id") or "default"
    if all(isinstance(name, str) and NAME.fullmatch(name) for name in (service, instance)):
        return f"/services/{service}/instances/{instance}"
    return None


def last_beat(path):
    """When an instance was heard of last; None where it is not there."""
    status, body = ask(path) if path else (None, b"")
    return json.loads(body)["last_heartbeat"] if status == 200 else None


@schemathesis.hook
def filter_query(ctx, query):
    """Tries no unknown name beside the free ones of `meta`: it would be taken for a broken `meta`, and is passed over."""
    named = {parameter.name for parameter in ctx.operation.query}
    if "meta" not in named or not isinstance(query, dict):
        return True
    return all(name in named or name.startswith("meta.") for name in query)


@schemathesis.hook
def before_call(ctx, case, kwargs):
    path = target(case)
    before.update(changes=changes(), path=path, beat=last_beat(path))


@schemathesis.hook
def after_call(ctx, case, response):
    status, now = response.status_code, changes()
    call = f"{response.request.method} {response.request.url} {response.request.body!r} -> {status}"
    counts["calls"] += 1
    counts[f"status {status}"] += 1
    writes = response.request.method not in ("GET", "HEAD")
    if 400 <= status < 500:
        counts["refused calls"] += 1
        assert now == before["changes"], f"a refused call changed something: {call}"
        beat = last_beat(before["path"])
        if before["beat"] is not None and beat is not None:
            counts["refused calls about an instance that is there"] += 1
            assert abs(beat - before["beat"]) < SAME, f"a refused call counted as a beat: {call}"
    elif writes and status < 300:
        counts["writes"] += 1
        counts["writes that changed something"] += now > before["changes"]
    if TOKENLESS and writes:
        assert status >= 400, f"a write without a good token: {call}"
    if not writes:
        assert now == before["changes"], f"a read changed something: {call}"


@schemathesis.check
def well_formed_is_taken(ctx, response, case):
    """What the document allows is no broken rule. An endpoint alone has a rule that no pattern says."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code not in (400, 415, 422):
        return
    problem = response.json()
    assert problem.get("field") == "endpoint", f"{response.status_code}: {problem['detail']}"


@atexit.register
def report():
    with open(os.environ["SCHEMA_COUNTS"], "a", encoding="utf-8") as file:
        json.dump(counts, file)
        file.write("\n")


def endpoints():
    """URLs that are endpoints: the pattern of the document lets through hosts that the URL standard does not."""
    label = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(lambda text: "xn--" not in text)
    name = st.lists(label, min_size=1, max_size=3).map(".".join)
    host = name | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda address: f"[{address}]")
    port = st.integers(1, 65535).map(lambda port: f":{port}") | st.just("")
    path = st.from_regex(r"(/[a-z0-9._~-]{0,8}){0,3}(\?[a-z]{1,5}=[a-z0-9]{0,5})?", fullmatch=True)
    return st.builds(lambda scheme, *rest: scheme + "".join(rest), st.sampled_from(["http://", "https://"]), host, port, path)


schemathesis.openapi.format("uri", endpoints())
