"""Documents made to be costly: small on the wire, large or deep once they are parsed."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import aiohttp
import pytest

from support.pushing import IMAGE
from support.registry import Process, served_process

MIB = 2**20
SIZE = 4 * MIB
LIMIT = 512 * MIB


def filled(opening: bytes, piece: bytes, closing: bytes) -> bytes:
    """As many pieces as fit into 4 MiB."""
    count = (SIZE - len(opening) - len(closing)) // len(piece)
    return opening + piece * count + closing


BOMBS = {
    "deep": b"[" * SIZE,
    "deep objects": filled(b"", b'{"a":', b""),
    "wide objects": filled(b'{"schemaVersion":2,"layers":[', b"{},", b"{}]}"),
    "wide lists": filled(b'{"schemaVersion":2,"layers":[', b"[],", b"[]]}"),
    "many small texts": filled(b'{"schemaVersion":2,"annotations":[', b'"ab",', b'""]}'),
    "many names": b'{"schemaVersion":2,"annotations":{'
    + b",".join(b'"%07d":""' % number for number in range((SIZE - 100) // 13))
    + b"}}",
    "as many objects as are read": b'{"schemaVersion":2,"annotations":['
    + b'{"k":"a text of its own"},' * 124_000
    + b'"'
    + b"x" * 1000
    + b'"]}',
    "one long number": b'{"schemaVersion":' + b"9" * (SIZE - 100) + b"}",
    "one long text": filled(b'{"schemaVersion":2,"mediaType":"', b"\\u0041", b'"}'),
}


def peak(process: Process) -> int:
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
async def test_64_documents_of_4_mib_at_once_are_refused_within_512_mib(tmp_path: Path, name: str) -> None:
    with served_process(tmp_path / "root", "--dev") as process:
        timeout = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(
            process.url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
        ) as session:

            async def throw(number: int) -> tuple[int, str]:
                url = f"/v2/my/api/manifests/v{number}"
                async with session.put(url, data=io.BytesIO(BOMBS[name]), headers={"Content-Type": IMAGE}) as answer:
                    return answer.status, (await answer.json())["errors"][0]["code"]

            answers = await asyncio.gather(*(throw(number) for number in range(64)))
            async with session.get("/readyz") as ready:
                assert ready.status == 200
        used = peak(process)
    assert set(answers) == {(400, "MANIFEST_INVALID")}
    assert used < LIMIT, f"{used / MIB:.0f} MiB"
    print(f"{used / MIB:.0f} MiB")
