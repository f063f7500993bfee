"""Files into sockets, without HTTP: turns of the kernel, and the waits between them."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from regserver.storage.blobs.port import StoreFailed
from regserver.web import sending

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(CONTENT)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(ours, the client's); ours does not block."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_a_turn_sends_piece_after_piece(
    file: int, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PIECE", 1000)
    assert sending._sendfile(pair[0].fileno(), file, 100, 5000) == (5000, False)
    assert pair[1].recv(10_000) == CONTENT[100:5100]


def test_a_turn_ends_where_the_socket_is_full(file: int, pair: tuple[socket.socket, socket.socket]) -> None:
    sent, full = 0, False
    while not full:
        more, full = sending._sendfile(pair[0].fileno(), file, 0, len(CONTENT))
        sent += more
    assert sent > 0


def test_a_turn_fails_where_the_file_ends(file: int, pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(OSError, match="shorter"):
        sending._sendfile(pair[0].fileno(), file, len(CONTENT) - 10, 20)


async def test_nobody_waits_for_ever_for_a_client_that_takes_nothing(
    file: int, pair: tuple[socket.socket, socket.socket]
) -> None:
    while not sending._sendfile(pair[0].fileno(), file, 0, len(CONTENT))[1]:
        pass
    with pytest.raises(TimeoutError):
        await sending._writable(pair[0].fileno(), 0.05)


async def test_the_wait_ends_when_the_client_takes_something(
    file: int, pair: tuple[socket.socket, socket.socket]
) -> None:
    while not sending._sendfile(pair[0].fileno(), file, 0, len(CONTENT))[1]:
        pass
    waiting = asyncio.create_task(sending._writable(pair[0].fileno(), 20))
    await asyncio.sleep(0)
    pair[1].setblocking(False)
    while not waiting.done():
        try:
            pair[1].recv(2**16)
        except BlockingIOError:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    await waiting


def test_a_small_file_that_is_too_short_is_a_failure_of_the_store(file: int) -> None:
    with pytest.raises(StoreFailed):
        sending._small(file, 0, len(CONTENT) + 1, {}, 200)
