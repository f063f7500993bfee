"""`strace` as a saboteur: it stops a process at its n-th call of a kind, or lets that call fail."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.zygote import Child

# What changes a file, a folder or what of them is durable. Sockets are written to by other calls.
CALLS = (
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "ftruncate", "fallocate", "copy_file_range"),
    *("fsync", "fdatasync", "sync_file_range", "rename", "renameat", "renameat2", "link", "linkat"),
    *("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
)
_LINE = re.compile(r"^(?P<thread>\d+)\s+(?P<call>\w+)\((?P<rest>.*)")
PATIENCE_SECONDS = 1.0
_UNFINISHED = "<unfinished ...>"


@dataclass(frozen=True)
class Call:
    """The ``number``-th call of its kind, counted from 1. ``shown``: as strace shows it."""

    name: str
    number: int
    shown: str

    def __str__(self) -> str:
        return f"{self.name} {self.number}"

    def fail(self, error: str) -> str:
        """The injection that lets it fail, once."""
        return f"inject={self.name}:error={error}:when={self.number}"

    @property
    def kill(self) -> str:
        """The injection that ends the process at it, before it has any effect."""
        return f"inject={self.name}:signal=SIGKILL:when={self.number}"


def find_strace() -> str:
    """Where it is; without it the test is skipped, but fails where CI says that nothing may be."""
    found = shutil.which("strace")
    if found is None:
        say = pytest.fail if os.environ.get("REGSERVER_CI") else pytest.skip
        say("strace is not installed: run `make clients` (or tools/setup-clients strace)")
    return found


@contextlib.contextmanager
def attached(child: Child, output: Path, *injections: str) -> Iterator[None]:
    """strace follows every thread of a process from when this returns; its lines go to ``output``.

    At the end the process is gone, or goes on by itself.
    """
    expressions = [part for injection in injections for part in ("-e", injection)]
    command = [find_strace(), "-f", "-y", "-p", str(child.pid), "-o", str(output), "-e", f"trace={','.join(CALLS)}"]
    with subprocess.Popen([*command, "-e", "signal=none", *expressions], stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr is not None
        try:
            line = tracer.stderr.readline()
            assert b"attached" in line, line + tracer.stderr.read()
            yield
        finally:
            _end(tracer, child)


def _end(tracer: subprocess.Popen[bytes], child: Child) -> None:
    if child.alive:
        tracer.terminate()  # it lets the process go on
    try:
        tracer.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:  # told to let go of a process that was just dying, it may wait for it for ever
        tracer.kill()


def calls(output: Path, *, alone: bool = True) -> list[Call]:
    """The calls in their order. strace counts for each thread, and meets a number where the first thread gets to it.

    ``alone``: AssertionError if two threads make calls of one kind, as then some of these could not be met.
    """
    found: dict[tuple[str, int], Call] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for line in output.read_text(errors="replace").splitlines():
        matched = _LINE.match(line)
        if matched is None:  # the end of a call that was begun before, or of a thread
            continue
        name = matched["call"]
        counts[matched["thread"], name] += 1
        number = counts[matched["thread"], name]
        found.setdefault((name, number), Call(name, number, matched["rest"].removesuffix(_UNFINISHED)))
    makers = Counter(name for _, name in counts)
    assert not alone or max(makers.values(), default=1) == 1, f"two threads make the same calls: {makers}"
    return list(found.values())


def was_reached(output: Path) -> bool:
    """Whether the process was killed at a call: it never came back from it."""
    return any(line.endswith("= ?") for line in output.read_text(errors="replace").splitlines())
