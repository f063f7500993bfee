"""Memory stays flat whatever is pushed: measured from outside, as the kernel counts it."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.registry import Process, served_process
from support.wire import CHUNKED, Wire, head, length

MIB = 2**20
PIECE = bytes(range(256)) * 4096  # 1 MiB

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def grown(process: Process, limit: int) -> Iterator[None]:
    """Fails if the process's resident memory peaks more than `limit` bytes above what it takes now."""
    status = Path(f"/proc/{process.process.pid}/status")
    Path(f"/proc/{process.process.pid}/clear_refs").write_text("5")  # forget the peak until now
    before = figure(status, "VmRSS")
    yield
    assert figure(status, "VmHWM") - before < limit


def figure(status: Path, name: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


@contextlib.asynccontextmanager
async def connection(process: Process) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(*process.address)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


async def push(process: Process, seed: str, size: int, framing: str) -> str:
    """The digest of a blob of `size` bytes, whole MiB, which no other seed gives: POST, PATCH, PUT."""
    first = seed.encode().ljust(MIB, b".")
    hasher = hashlib.sha256(first)
    for _ in range(size // MIB - 1):
        hasher.update(PIECE)
    async with connection(process) as wire:
        await wire.send(head("POST", "/v2/a/b/blobs/uploads/", length(0)))
        location = (await wire.answer()).headers["location"]
        await wire.send(head("PATCH", location, CHUNKED if framing == "chunked" else length(size)))
        for piece in (first, *[PIECE] * (size // MIB - 1)):
            frame = (f"{len(piece):x}\r\n", piece, "\r\n") if framing == "chunked" else (piece,)
            await wire.send(*frame)
        if framing == "chunked":
            await wire.send("0\r\n\r\n")
        assert (await wire.answer()).headers["range"] == f"0-{size - 1}"
        await wire.send(head("PUT", f"{location}?digest=sha256:{hasher.hexdigest()}", length(0)))
        assert (await wire.answer()).status == 201
    return f"sha256:{hasher.hexdigest()}"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    with served_process(tmp_path / "root", "--dev") as process:
        yield process


FRAMINGS = pytest.mark.parametrize("framing", ["length", "chunked"])


@FRAMINGS
async def test_one_push_of_a_gibibyte_adds_less_than_32_mib(process: Process, framing: str) -> None:
    await push(process, "warm", 4 * MIB, framing)
    with grown(process, 32 * MIB):
        await push(process, "large", 1024 * MIB, framing)


@FRAMINGS
async def test_64_pushes_at_once_add_less_than_192_mib(process: Process, framing: str) -> None:
    await push(process, "warm", 4 * MIB, framing)
    with grown(process, 192 * MIB):
        await asyncio.gather(*(push(process, f"blob {number}", 16 * MIB, framing) for number in range(64)))


async def test_a_pull_of_256_mib_adds_less_than_16_mib(process: Process) -> None:
    digest = await push(process, "large", 256 * MIB, "length")
    with grown(process, 16 * MIB):
        async with connection(process) as wire:
            await wire.send(head("GET", f"/v2/a/b/blobs/{digest}"))
            await wire.reader.readuntil(b"\r\n\r\n")
            hasher = hashlib.sha256()
            for _ in range(256):
                hasher.update(await wire.reader.readexactly(MIB))
    assert f"sha256:{hasher.hexdigest()}" == digest
