"""The clients: ask.c for small requests, load.c for blobs and manifests; they take far less than the servers do.

wrk asks what goes over TLS. It cannot be used for all: its parser waits for a body behind the answer to a HEAD.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.processes import NotMeasured

HERE = Path(__file__).parent
MIB = 2**20
GIB = 2**30
ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
_LATENCY = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)\s*$", re.MULTILINE)
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)")
ONCE = "@" * 16  # ask.c writes a number over it that no other request has
THREADS = 2  # of ask.c: as many as the machine has cores that a server would keep it waiting with
_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
PATIENCE = 300.0  # seconds beyond what a client was told to take


@dataclasses.dataclass(frozen=True)
class Rate:
    """Requests per second, and milliseconds that half and 99 of 100 of them took at most."""

    per_second: float
    p50: float
    p99: float


@dataclasses.dataclass(frozen=True)
class Done:
    count: int
    bytes: int
    seconds: float
    p50_ms: float
    p99_ms: float


def compiled(name: str, folder: Path) -> Path:
    """The program of ``name``.c; raises NotMeasured without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NotMeasured("no C compiler here for benchmarks/*.c: tools/setup-clients --peers")
    source = HERE / f"{name}.c"
    command = [compiler, "-O2", "-pthread", "-o", str(folder / name), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMeasured(f"{source} does not compile: {done.stderr[-1000:]}")
    return folder / name


class Load:
    """``load.c`` and ``ask.c``. Blobs are made from a block of random bytes and a number, the same for all servers."""

    def __init__(self, folder: Path) -> None:
        self._load = compiled("load", folder)
        self._ask = compiled("ask", folder)
        self._block_file = folder / "block"
        self._block = os.urandom(MIB)
        self._block_file.write_bytes(self._block)
        self._digests: dict[tuple[int, int], str] = {}
        self._scratch = folder

    def content(self, number: int, size: int) -> bytes:
        """Blob ``number`` of ``size`` bytes, at most 1 MiB."""
        return (number.to_bytes(8, "little") + bytes(8) + self._block[16:])[:size]

    def digest(self, number: int, size: int) -> str:
        """What the blob hashes to; reckoned once."""
        known = self._digests.get((number, size))
        if known is None:
            state, rest = hashlib.sha256(), memoryview(self._block)[16:]
            for offset in range(0, size, MIB):
                part = min(MIB, size - offset)
                state.update(number.to_bytes(8, "little") + offset.to_bytes(8, "little"))
                state.update(rest[: part - 16])
            known = self._digests[number, size] = f"sha256:{state.hexdigest()}"
        return known

    def pull(self, host: str, header: str, path: str, threads: int) -> Done:
        return self._run(["pull", *host.split(":"), str(threads), header, path])

    def push(
        self, how: str, host: str, header: str, repository: str, size: int, count: int, threads: int, seconds: float = 0
    ) -> Done:
        """``how``: put or patch. ``seconds``: when to stop, 0 for after ``count`` blobs."""
        digests = "\n".join(self.digest(number, size) for number in range(count))
        words = [how, *host.split(":"), str(threads), header, repository, str(self._block_file), str(size)]
        return self._run([*words, str(seconds)], digests, seconds)

    def manifests(
        self, host: str, header: str, repository: str, body: bytes, threads: int, seconds: float, rate: float = 0
    ) -> Done:
        file = self._scratch / f"body-{threading.get_ident()}"
        file.write_bytes(body)
        words = ["manifests", *host.split(":"), str(threads), header, repository, str(file), str(seconds), str(rate)]
        return self._run(words, "", seconds)

    def ask(self, host: str, requests: bytes, connections: int, seconds: float) -> Done:
        """``requests``: heads, in turn until ``seconds`` have passed, or each once where these are 0."""
        words = [*host.split(":"), str(min(THREADS, connections)), str(connections), str(seconds)]
        return _run([str(self._ask), *words], requests, seconds)

    def _run(self, words: Sequence[str], given: str = "", seconds: float = 0) -> Done:
        return _run([str(self._load), *words], given.encode(), seconds)


def _run(command: Sequence[str], given: bytes, seconds: float) -> Done:
    try:
        done = subprocess.run(command, input=given, capture_output=True, check=False, timeout=seconds + PATIENCE)
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"{Path(command[0]).name} did not end") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise NotMeasured(f"{Path(command[0]).name} {command[1]}: {said[:600]}")
    return Done(**json.loads(done.stdout))


def head(method: str, path: str, host: str, header: str, agent: str = "bench") -> bytes:
    """Of a request, as a registry's client sends it. ``agent`` may hold ONCE."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"User-Agent: {agent}", f"Accept: {ACCEPT}"]
    return "\r\n".join([*lines, *([header] if header else []), "", ""]).encode()


def wrk(
    url: str,
    header: str,
    seconds: float,
    connections: int,
    *,
    method: str = "GET",
    script: str = "",
    folder: Path,
    threads: int = 2,
    more: Mapping[str, str] | None = None,
) -> Rate:
    """Raises NotMeasured when an answer is not 2xx, or without wrk."""
    program = shutil.which("wrk")
    if program is None:
        raise NotMeasured("no wrk here: tools/setup-clients --peers")
    lua = folder / "wrk.lua"
    lua.write_text(f'wrk.method = "{method}"\n{script}')
    command = [program, "-t", str(min(threads, connections)), "-c", str(connections), "-d", f"{seconds:g}s"]
    command += ["--timeout", "30s", "--latency", "-s", str(lua)]
    for name, value in {"Accept": ACCEPT, **(more or {})}.items():
        command += ["-H", f"{name}: {value}"]
    command += ["-H", header] if header else []
    done = subprocess.run([*command, url], capture_output=True, text=True, check=False, timeout=seconds + PATIENCE)
    return parse_wrk(done.stdout + done.stderr, url)


def parse_wrk(text: str, url: str = "") -> Rate:
    """Raises NotMeasured where requests failed."""
    rate, bad = _RATE.search(text), _BAD.search(text)
    if rate is None or bad is not None or float(rate[1]) == 0:
        raise NotMeasured(f"wrk {url}: {bad.group() if bad else text.strip()[-300:]}")
    latency = {share: float(value) * _MS[unit] for share, value, unit in _LATENCY.findall(text)}
    return Rate(float(rate[1]), latency.get("50", 0.0), latency.get("99", 0.0))
