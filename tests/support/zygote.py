"""Servers in a tenth of the time: a process that has imported everything, and forks a server from itself when asked.

Only what makes a run repeatable differs from `python -m regserver`: the store has one thread, so that the n-th call of
a kind is the same call in every run, and the log is folded when a test says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

TESTS = Path(__file__).parents[1]
SETTLED = "everything that a start does is done"
PATIENCE_SECONDS = 30.0
NEVER = 1e6


@dataclass
class Child:
    """A process that was forked. It is gone once ``wait`` has returned."""

    pid: int
    log: Path
    _handle: int = field(repr=False)

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Until it has ended. Raises TimeoutError."""
        if not select.select([self._handle], [], [], seconds)[0]:
            raise TimeoutError(f"process {self.pid} goes on:\n{self.output}")

    @property
    def alive(self) -> bool:
        return not select.select([self._handle], [], [], 0)[0]

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.wait()

    @contextlib.contextmanager
    def dying_on(self, sign: type[Exception]) -> Iterator[None]:
        """Takes that exception for the death of the process, and returns when it is gone."""
        try:
            yield
        except sign:
            self.wait()

    def wait_for(self, words: str) -> str:
        """The line of its output that holds the words. Raises RuntimeError if it ends before."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            alive = self.alive  # first: what it wrote last is read below
            for line in self.output.splitlines():
                if words in line:
                    return line
            if not alive:
                break
            time.sleep(0.002)
        raise RuntimeError(f"process {self.pid} never said {words!r}:\n{self.output}")

    def url(self) -> str:
        """Where it listens; waits until it does."""
        return str(json.loads(self.wait_for('"listening"'))["address"])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.kill()
            os.close(self._handle)


class Zygote:
    """The parent's end."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._count = 0

    @contextlib.contextmanager
    def run(self, *arguments: str, held: bool = False, quiet_seconds: float = NEVER) -> Iterator[Child]:
        """`regserver` with these arguments; killed at the end. ``held``: stopped before its first step, until SIGCONT.

        ``quiet_seconds``: how long no write comes before the log is folded into the catalog.
        """
        self._count += 1
        log = self._folder / f"{self._count}.log"
        log.touch()
        order = {"arguments": arguments, "log": str(log), "held": held, "quiet_seconds": quiet_seconds}
        ordered, answered = _pipe(self._process.stdin), _pipe(self._process.stdout)
        ordered.write(json.dumps(order) + "\n")
        ordered.flush()
        pid = int(answered.readline())
        child = Child(pid, log, os.pidfd_open(pid))
        try:
            if held:
                _until_stopped(pid)
            yield child
        finally:
            child.close()

    def serve(self, root: Path, **more: Any) -> contextlib.AbstractContextManager[Child]:
        """`regserver serve` on a free port, its log as JSON."""
        return self.run("serve", "--root", str(root), "--listen", "127.0.0.1:0", "--log-format", "json", **more)


@contextlib.contextmanager
def zygote(folder: Path) -> Iterator[Zygote]:
    """``folder`` is for the logs of the processes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REGSERVER_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), str(TESTS.parent), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "support.zygote"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Zygote(process, folder)
        finally:
            process.kill()


def _pipe(end: IO[str] | None) -> IO[str]:
    assert end is not None
    return end


def _until_stopped(pid: int) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)


# ---- in the process that forks


def main() -> None:
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    import regserver.__main__
    import regserver.serving
    from regserver.storage.blobs import filesystem

    _ = regserver.serving, padding, rsa, load_pem_private_key  # what a server would import when it needs it
    filesystem.THREADS = 1
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(_child(order))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _child(order: dict[str, Any]) -> int:
    from regserver.__main__ import main as regserver
    from regserver.storage.sql import group_commit

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    group_commit.QUIET_SECONDS = order["quiet_seconds"]
    _tell_when_settled()
    if order["held"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    try:
        return regserver(order["arguments"])
    except SystemExit as ended:
        return int(ended.code or 0)


def _tell_when_settled() -> None:
    from regserver.content.housekeeping import Housekeeping

    sweep = Housekeeping._sweep

    async def swept(self: Housekeeping) -> None:
        await sweep(self)
        os.write(2, f"{SETTLED}\n".encode())

    Housekeeping._sweep = swept  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
