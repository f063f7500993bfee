"""A disk of a few megabytes, to be full."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CHUNK = 4096


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs mounted on a new folder, which takes root; without it the test is skipped, but fails in CI."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        say = pytest.fail if os.environ.get("REGSERVER_CI") else pytest.skip
        say(f"no small disk can be mounted: {mounted.stderr.strip()}; run the tests as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Ballast:
    """A file that takes space: some of it, all of it, or none."""

    def __init__(self, disk: Path, size: int) -> None:
        self._file = disk / "ballast"
        self._file.write_bytes(bytes(size))

    def take_all(self) -> None:
        """Until not one block is left."""
        with contextlib.suppress(OSError), self._file.open("ab", buffering=0) as file:
            while file.write(bytes(CHUNK)):
                pass

    def give_back(self) -> None:
        self._file.unlink()
