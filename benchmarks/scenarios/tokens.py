"""The token service, which only regserver has: tokens issued, and tokens verified that were never seen before."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection

from benchmarks.clients import ONCE, head
from benchmarks.figures import Goal, Sample, Workload
from benchmarks.processes import NotMeasured
from benchmarks.scenarios.base import PER_REQUEST, Bench, Found, Scenario, counted
from benchmarks.servers import Peer, Regserver, Server, token_path

CONNECTIONS = 16
TOKENS = 4000
DRAWERS = 4


def algorithm(token: str) -> str:
    """How it is signed (RFC 7515, "alg")."""
    part = token.partition(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["alg"])


class Tokens(Scenario):
    name = "tokens"
    workloads = (
        Workload("token-rs256", "tokens issued, RS256", "tokens/s", cpu_unit=PER_REQUEST),
        Workload("token-es256", "tokens issued, ES256", "tokens/s", cpu_unit=PER_REQUEST),
        Workload("token-first", "GET /v2/ with a token never seen", "req/s", cpu_unit=PER_REQUEST),
        Workload("token-verify", "tokens verified for the first time, per second of processor", "tokens/s"),
    )
    goals = (
        Goal("token-rs256", 2000, ""),
        Goal("token-es256", 7000, ""),
        Goal("token-first", 10_000, ""),
        Goal("token-verify", 10_000, ""),
    )

    def takes(self, peer: Peer) -> bool:
        return isinstance(peer, Regserver)

    def run(self, bench: Bench, server: Server, peer: Peer) -> Found:
        name = f"token-{algorithm(server.header.rpartition(' ')[2]).lower()}"
        if bench.wanted(name):
            request = head("GET", token_path(server), server.host, f"Authorization: {server.basic}")
            yield name, counted(server, partial(bench.load.ask, server.host, request, CONNECTIONS, bench.seconds))
        if bench.wanted("token-first") or bench.wanted("token-verify"):
            yield from self._verified(bench, server)

    def _verified(self, bench: Bench, server: Server) -> Found:
        """Verifying costs what such a request costs more than one whose token is known and whose head is new."""
        tokens = drawn(server, TOKENS // bench.shrink)
        requests = b"".join(head("GET", "/v2/", server.host, f"Authorization: Bearer {token}") for token in tokens)
        first = counted(server, partial(bench.load.ask, server.host, requests, CONNECTIONS, 0))
        known = head("GET", "/v2/", server.host, f"Authorization: Bearer {tokens[-1]}", f"bench/{ONCE}")
        again = counted(server, partial(bench.load.ask, server.host, known, CONNECTIONS, bench.seconds))
        yield "token-first", first
        if first.cpu is not None and again.cpu is not None and first.cpu > again.cpu:
            yield "token-verify", Sample(1e6 / (first.cpu - again.cpu))


def drawn(server: Server, count: int) -> list[str]:
    """Tokens, each a new one."""

    def draw(share: int) -> list[str]:
        connection = HTTPConnection(server.host, timeout=60)
        found = []
        for _ in range(share):
            connection.request("GET", token_path(server), headers={"Authorization": server.basic})
            response = connection.getresponse()
            said = response.read()
            if response.status != 200:
                raise NotMeasured(f"no token: {response.status} {said[:200]!r}")
            found.append(str(json.loads(said)["token"]))
        connection.close()
        return found

    with ThreadPoolExecutor(DRAWERS) as pool:
        return [token for part in pool.map(draw, [count // DRAWERS] * DRAWERS) for token in part]
