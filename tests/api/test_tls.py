"""TLS by the server itself."""

import socket
import ssl
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.registry import PATIENCE_SECONDS, fail_to_serve, served_process


def make_certificate(folder: Path, *, passphrase: bytes | None = None) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    sealing = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing))
    return cert_file, key_file


def test_tls_is_served_from_version_1_2_on(tmp_path: Path) -> None:
    cert_file, key_file = make_certificate(tmp_path)
    flags = ["--dev", "--tls-cert", str(cert_file), "--tls-key", str(key_file)]
    with served_process(tmp_path / "data", *flags) as server:
        assert server.url.scheme == "https"
        context = ssl.create_default_context(cafile=str(cert_file))
        with (
            socket.create_connection(server.address, timeout=PATIENCE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wrapped,
        ):
            assert wrapped.version() in {"TLSv1.2", "TLSv1.3"}
            wrapped.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert wrapped.recv(15) == b"HTTP/1.1 200 OK"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # asking for an old version is the point
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with (
            socket.create_connection(server.address, timeout=PATIENCE_SECONDS) as plain,
            pytest.raises(ssl.SSLError),
        ):
            context.wrap_socket(plain, server_hostname="localhost")


def test_a_key_with_a_passphrase_is_refused_instead_of_asked_for(tmp_path: Path) -> None:
    cert_file, key_file = make_certificate(tmp_path, passphrase=b"passphrase")
    code, said = fail_to_serve(tmp_path / "data", "--tls-cert", str(cert_file), "--tls-key", str(key_file))
    assert (code, said.count("\n")) == (1, 1)
    assert "--tls-key" in said


def test_a_certificate_that_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    code, said = fail_to_serve(tmp_path / "data", "--tls-cert", missing, "--tls-key", missing)
    assert (code, said.count("\n")) == (1, 1)
    assert "No such file" in said
