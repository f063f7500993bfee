"""A started server and what it costs: CPU seconds and memory of it and of all that it started, from /proc."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 20.0
RESET_PEAK = "5"  # proc(5), clear_refs: VmHWM begins anew


class NotMeasured(Exception):
    """Something that a figure needs is not here or failed; the message is the line in the report."""


@dataclasses.dataclass(frozen=True)
class Running:
    """A server that this program started; ``log`` has its output."""

    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to whoever is left after STOP_SECONDS."""
        tree = list(tree_of(self.process.pid))
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in tree[1:]:
            if Path(f"/proc/{pid}/stat").exists() and parent_of(pid) in tree:
                os.kill(pid, signal.SIGKILL)


def start(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Running:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=dict(environment)
        )
    return Running(process, log)


def parent_of(pid: int) -> int:
    return int(_stat(pid)[1])


def tree_of(pid: int) -> Iterator[int]:
    """The process and its descendants, it first."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from tree_of(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree so far, ended children included."""
    return sum(sum(map(int, _stat(each)[11:15])) for each in tree_of(pid)) / TICKS


def resident_mb(pid: int) -> float:
    """MB (10⁶ bytes) that the tree holds now."""
    return sum(_status(each, "VmRSS") for each in tree_of(pid)) / 1e6


def forget_peak(pid: int) -> None:
    """``peak_mb`` counts from now on."""
    for each in tree_of(pid):
        Path(f"/proc/{each}/clear_refs").write_text(RESET_PEAK)


def peak_mb(pid: int) -> float:
    """The most MB that the processes of the tree held, added up, since ``forget_peak``."""
    return sum(_status(each, "VmHWM") for each in tree_of(pid)) / 1e6


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, state first; zeros for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["0"] * 50


def _status(pid: int, name: str) -> int:
    """Bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


class Meter:
    """CPU seconds and peak memory of a server between ``with`` and its end."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.cpu = self.peak = self.seconds = 0.0

    def __enter__(self) -> Meter:
        forget_peak(self._pid)
        self.cpu, self.seconds = cpu_seconds(self._pid), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self.seconds
        self.cpu = cpu_seconds(self._pid) - self.cpu
        self.peak = peak_mb(self._pid)
