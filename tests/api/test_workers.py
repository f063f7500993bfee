"""`regserver serve --workers 2`: what they share, how they start and end, and what one's death does. All from outside."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.registry import PATIENCE_SECONDS, Process, fail_to_serve, served_process

BLOB = b"x" * 100_000
DIGEST = "sha256:" + hashlib.sha256(BLOB).hexdigest()
UPLOADS = "/v2/my-images/api/blobs/uploads/"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """For tests that leave the workers alone."""
    with served_process(tmp_path_factory.mktemp("workers") / "root", "--dev", "--workers", "2") as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    with served_process(tmp_path / "root", "--dev", "--workers", "2", "--drain-seconds", "20") as server:
        yield server


def workers(server: Process) -> list[int]:
    """Their process ids, the first one's first."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(child) for child in children]


def connect_to(server: Process, worker: int) -> http.client.HTTPConnection:
    """A connection that this worker has accepted: as many are made as that takes."""
    for _ in range(200):
        connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_SECONDS)
        get(connection, "/healthz")
        if owner(connection) == worker:
            return connection
        connection.close()
    raise AssertionError("none of 200 connections came to it")


def owner(connection: http.client.HTTPConnection) -> int:
    """The process at the other end, as the kernel knows it."""
    here, there = connection.sock.getsockname(), connection.sock.getpeername()
    wanted = f"{_packed(there)} {_packed(here)}"
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inode = next(line.split()[9] for line in table if wanted in line)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(entry) == f"socket:[{inode}]" for entry in (process / "fd").iterdir()):
                return int(process.name)
    raise AssertionError("nobody holds it")


def _packed(address: tuple[str, int]) -> str:
    host = int.from_bytes(socket.inet_aton(address[0]), "little")
    return f"{host:08X}:{address[1]:04X}"


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    return ask(connection, "GET", path)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, content: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    connection.request(method, path, body=content, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return found


def test_it_listens_once_all_of_them_serve_and_a_port_that_was_free_is_one_for_all(shared: Process) -> None:
    assert len(workers(shared)) == 2
    for worker in workers(shared):
        connect_to(shared, worker).close()
    assert [message for message in shared.messages if message == "worker serves"] == ["worker serves"] * 2
