"""What is handed out, built once: the one file, and the wheel beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.environment import clean_environment

PROJECT = Path(__file__).resolve().parents[2]
BUILD_SECONDS = 1200  # the first test of a module waits for what it needs
# What every program of a Linux with this C library finds. All else must be in the file.
C_LIBRARY = (
    *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2"),
    *("libnss_files.so.2", "libnss_dns.so.2", "libz.so.1"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make build` fills."""
    into = tmp_path_factory.mktemp("built") / "dist"
    command = [sys.executable, PROJECT / "tools" / "build.py", "--into", into]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    if done.returncode:
        pytest.fail(f"the build failed:\n{done.stdout}{done.stderr}", pytrace=False)
    return into


@pytest.fixture(scope="session")
def binary(built: Path) -> Path:
    return built / "regserver"


@pytest.fixture(scope="session")
def bare_machine(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with the C library, the one file, and nothing else: no Python, no shell, no /proc, no /dev."""
    machine = tmp_path_factory.mktemp("machine")
    shutil.copy(binary, machine / "regserver")
    linked = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout.split()
    loader = next(Path(word) for word in linked if word.startswith("/") and "/ld-" in word)
    folder = next(Path(word) for word in linked if word.startswith("/") and word.endswith("/libc.so.6")).parent
    for source in (loader, *(folder / name for name in C_LIBRARY)):
        target = machine / source.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    (machine / "tmp").mkdir()
    # A path below the machine means the same inside: it is its own root there.
    inside = machine / machine.relative_to("/")
    inside.parent.mkdir(parents=True)
    inside.symlink_to("/")
    return machine


@pytest.fixture(scope="session")
def alone(bare_machine: Path) -> Sequence[str]:
    """The command that runs the one file on the bare machine; without root, here with an empty environment."""
    if os.geteuid() == 0:
        return ("env", "-i", "TMPDIR=/tmp", shutil.which("chroot", path="/usr/sbin:/sbin:/usr/bin") or "chroot",
                str(bare_machine), "/regserver")  # fmt: skip
    return ("env", "-i", "PATH=/nonexistent", f"TMPDIR={bare_machine / 'tmp'}", str(bare_machine / "regserver"))
