"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import NotMeasured
from benchmarks.servers import Peer


def describe(root: Path | None) -> dict[str, str]:
    """Processor, memory, kernel and the filesystem of ``root`` (the folder for temporary files where it is None)."""
    processor = _line_of("/proc/cpuinfo", "model name") or platform.processor() or "unknown"
    memory = int((_line_of("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 2**20
    place = str(root or os.environ.get("TMPDIR", "/tmp"))
    shown = subprocess.run(["df", "--output=fstype", place], capture_output=True, text=True, check=False)
    return {
        "processor": f"{processor}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"Linux {platform.release()}",
        "filesystem": (shown.stdout.split() or ["unknown"])[-1],
    }


def versions(peers: Sequence[Peer]) -> dict[str, str]:
    """By server; what is not installed is left out."""
    found = {}
    for peer in peers:
        try:
            peer.program()
            found[peer.name] = peer.version()
        except (NotMeasured, OSError):
            continue
    return found


def load_average() -> float:
    """Of the last minute; above the number of cores the figures are poor."""
    return os.getloadavg()[0]


def _line_of(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
