"""Blobs over an encrypted connection, where the kernel cannot send them, and files that shrank."""

import datetime
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from regserver.app import create_app
from support.pushing import Registry, make_content, push_blob
from support.registry import ADMIN_TOKEN, Client, Server, make_settings
from support.wire import connected, head


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
