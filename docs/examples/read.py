#!/usr/bin/env python3
"""Where is a service? Asks the registry, and keeps the last good answer for the time in which nobody can say.

    python3 read.py NAME             prints one endpoint: exit 0; 1 it is not there; 75 nobody knows; 64 asked wrongly
    python3 read.py NAME --every 5   goes on: one line for each look, until it is ended

REGISTRY_URL: one or more registries, separated by commas (default http://127.0.0.1:8888).
REGISTRY_READ_TOKEN: only where reads need a token.

As a module: registry = Registry(["http://vertice-register-lb:8888"]); registry.find("orders").pick()
Needs Python 3.8 or later, and nothing else.
"""

import http.client
import json
import os
import random
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

TIMEOUT = 3.0  # seconds for connecting, and for each wait for bytes
KEEP = 900.0  # seconds for which an old answer is better than none
FRESH = 1.0  # seconds for which the registry is not asked again
LONGEST = 16 * 1024 * 1024  # bytes of an answer

# A 404 counts only in the registry's own words: a balancer's 404 says nothing about the service.
NOT_THERE = ("/problems/unknown-service", "/problems/no-usable-instance")


class NotThere(Exception):
    """The registry knows that there is no usable instance."""


class NobodyKnows(Exception):
    """No registry could say, and no answer is left from before."""


class Refused(Exception):
    """The request is wrong: a name that none can have, or no token."""


class Answer:
    """The usable instances, as the registry lists them; `old` says for how many seconds nobody has confirmed them."""

    def __init__(self, instances, old=0.0):
        self.instances = instances
        self.old = old

    def pick(self):
        """One endpoint, at random among those that are not stale, as far as there are any."""
        certain = [one for one in self.instances if not one.get("stale")]
        return random.choice(certain or self.instances)["endpoint"]


class Registry:
    def __init__(self, urls, token=None):
        self.urls = [url.rstrip("/") for url in urls]
        self.headers = {"Accept": "application/json"}
        if token:
            self.headers["Authorization"] = "Bearer " + token
        # The registry is asked directly, whatever proxy the environment names.
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.known = {}

    def find(self, name):
        """Where the service is. Raises NotThere, NobodyKnows or Refused."""
        now = time.monotonic()
        kept = self.known.get(name)
        if kept and now - kept[0] < FRESH:
            return Answer(kept[1])
        reasons = []
        for url in self.urls:
            try:
                instances = self.ask(url, name)
            except NotThere:
                # Knowledge, not a fault: what was kept is no longer true.
                self.known.pop(name, None)
                raise
            except (OSError, ValueError, http.client.HTTPException) as error:
                reasons.append("%s: %s" % (url, error))
            else:
                self.known[name] = (now, instances)
                return Answer(instances)
        if kept and now - kept[0] < KEEP:
            return Answer(kept[1], now - kept[0])
        raise NobodyKnows("; ".join(reasons))

    def ask(self, url, name):
        request = urllib.request.Request(url + "/services/" + urllib.parse.quote(name, safe=""), headers=self.headers)
        try:
            with self.opener.open(request, timeout=TIMEOUT) as reply:
                body = json.loads(reply.read(LONGEST))
        except urllib.error.HTTPError as error:
            with error:
                problem = problem_of(error.read(LONGEST))
            if error.code == 404 and problem.get("type") in NOT_THERE:
                raise NotThere(problem.get("detail")) from None
            if error.code in (400, 401, 403, 422):
                raise Refused(problem.get("detail") or "HTTP %d" % error.code) from None
            raise ValueError("HTTP %d %s" % (error.code, problem.get("detail", ""))) from None
        instances = body.get("instances") if isinstance(body, dict) else None
        if not instances:
            raise ValueError("HTTP 200, but not the answer of a registry")
        return instances


def problem_of(body):
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    return problem if isinstance(problem, dict) else {}


def look(registry, name):
    """One look: the exit code, and the line to print."""
    try:
        answer = registry.find(name)
    except NotThere as error:
        return 1, "not there: %s" % error
    except NobodyKnows as error:
        return 75, "nobody knows: %s" % error
    except Refused as error:
        return 64, "refused: %s" % error
    if answer.old:
        return 0, "%s (not confirmed for %d s)" % (answer.pick(), answer.old)
    return 0, answer.pick()


def main():
    arguments = sys.argv[1:]
    every = None
    if len(arguments) == 3 and arguments[1] == "--every":
        every = float(arguments[2])
    elif len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    urls = os.environ.get("REGISTRY_URL") or "http://127.0.0.1:8888"
    urls = [url.strip() for url in urls.split(",") if url.strip()]
    registry = Registry(urls, os.environ.get("REGISTRY_READ_TOKEN"))
    while True:
        code, line = look(registry, arguments[0])
        if every is None:
            print(line, file=sys.stderr if code else sys.stdout)
            sys.exit(code)
        print(line, flush=True)
        time.sleep(every)


if __name__ == "__main__":
    main()
