"""Blobs over an encrypted connection, where the kernel cannot send them, and files that shrank."""

import asyncio
import datetime
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from regserver.app import create_app
from regserver.web import sending
from support.pushing import Registry, make_content, push_blob, push_image
from support.registry import ADMIN_TOKEN, Client, Server, make_settings
from support.wire import Wire, connected, head


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
async def encrypted(root: Path, tmp_path: Path) -> AsyncIterator[Registry]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*make_certificate(tmp_path))
    server = Server(await create_app(make_settings(root, dev=True), admin_token=ADMIN_TOKEN), scheme="https")
    await server.start_server(ssl=context)
    async with Client(server) as client:
        client.session.connector._ssl = False  # type: ignore[union-attr]
        yield Registry(client)


@pytest.mark.parametrize("size", [100, 3_000_001])
async def test_a_blob_is_whole_over_tls(encrypted: Registry, size: int) -> None:
    content = make_content(size)
    digest = await push_blob(encrypted, "a/b", content)
    whole = await encrypted.send("GET", f"/v2/a/b/blobs/{digest}")
    part = await encrypted.send("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": "bytes=50-"})
    assert (whole.status, whole.body) == (200, content)
    assert (part.status, part.body) == (206, content[50:])


def shrink(root: Path, size: int) -> None:
    for file in (root / "blobs").rglob("*"):
        if file.is_file() and file.stat().st_size > size:
            os.truncate(file, size)


async def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(registry: Registry, root: Path) -> None:
    content = make_content(60_000_000)
    digest = await push_blob(registry, "a/b", content)
    async with connected(registry) as wire:
        await wire.send(head("GET", f"/v2/a/b/blobs/{digest}"))
        await wire.reader.readexactly(100_000)
        shrink(root, 50_000_000)
        received = await wire.rest()
    assert 0 < len(received) < len(content)


@pytest.mark.parametrize("size", [5000, 300_000])
async def test_a_file_that_has_shrunk_on_disk_is_a_failure_and_no_short_answer(
    registry: Registry, root: Path, size: int
) -> None:
    digest = await push_blob(registry, "a/b", make_content(size))
    shrink(root, size - 1)
    answer = await registry.send("GET", f"/v2/a/b/blobs/{digest}")
    assert answer.refusal == (503, "UNAVAILABLE")


async def test_no_file_overtakes_what_was_written_before_it(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await push_image(registry, "a/b", "big", annotations={"note": "x" * 50_000})
    content = make_content(100_000)
    digest = await push_blob(registry, "a/b", content)
    waiting: list[int] = []
    hand_over = sending._hand_over

    async def watched(request: web.Request, transport: asyncio.WriteTransport, *rest: Any) -> None:
        waiting.append(transport.get_write_buffer_size())
        await hand_over(request, transport, *rest)

    monkeypatch.setattr(sending, "_hand_over", watched)
    pair = head("GET", "/v2/a/b/manifests/big") + head("GET", f"/v2/a/b/blobs/{digest}")
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", registry.client.port or 0))
        reader, writer = await asyncio.open_connection(sock=slow, limit=2**14)
        wire = Wire(reader, writer)
        await wire.send(pair * 100)
        for _ in range(100):
            assert (await wire.answer()).body == image.content
            assert (await wire.answer()).body == content
        writer.close()
        await writer.wait_closed()
    assert waiting == [0] * 100
