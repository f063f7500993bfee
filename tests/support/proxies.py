"""nginx and Caddy of Debian before a served registry, with certificates of an authority of the test's own."""

import contextlib
import dataclasses
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.clients import find

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
_START_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Certificate:
    """``chain`` and ``key`` are for the server; ``authority`` is what its clients trust."""

    chain: Path
    key: Path
    authority: Path


def make_certificate(folder: Path, *names: str, days: float = 90) -> Certificate:
    """For these DNS names, signed by a new authority."""
    folder.mkdir()
    now = datetime.now(UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = f"the authority of {folder.name}"
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, authority)])

    def build(subject: str, public: ec.EllipticCurvePublicKey, end: datetime) -> x509.CertificateBuilder:
        named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        builder = x509.CertificateBuilder().issuer_name(issuer).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).subject_name(named)
        return builder.not_valid_before(now - timedelta(days=400)).not_valid_after(end)

    root = build(authority, authority_key.public_key(), now + timedelta(days=400))
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    leaf = build(names[0], key.public_key(), now + timedelta(days=days)).add_extension(alternatives, critical=False)
    made = Certificate(folder / "fullchain.pem", folder / "privkey.pem", folder / "ca.crt")
    for path, builder in ((made.authority, root), (made.chain, leaf)):
        path.write_bytes(builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    made.key.touch(0o600)
    made.key.write_bytes(key.private_bytes(*form))
    return made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def nginx(folder: Path, registry: str, certificate: Certificate, *changes: tuple[str, str]) -> Iterator[str]:
    """The example as it stands but for addresses and files; ``changes`` are made in it. Yields ``localhost:PORT``."""
    port = free_port()
    given = (
        ("server 127.0.0.1:5000;", f"server {registry};"),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
        ("server_name registry.example.com;", "server_name localhost;"),
        ("/etc/ssl/registry/fullchain.pem", str(certificate.chain)),
        ("/etc/ssl/registry/privkey.pem", str(certificate.key)),
    )
    (folder / "regserver.conf").write_text(replaced((EXAMPLES / "nginx.conf").read_text(), (*given, *changes)))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{folders}include {folder}/regserver.conf;\n}}\n"
    )
    command = [find("nginx"), "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(folder / "nginx.conf")]
    tried = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr
    with _running(command, folder / "log", port):
        yield f"localhost:{port}"


@contextlib.contextmanager
def caddy(folder: Path, registry: str, certificate: Certificate, *changes: tuple[str, str]) -> Iterator[str]:
    """The example, but for addresses, and with a certificate that it need not ask for."""
    port = free_port()
    site = f"https://localhost:{port} {{\n\ttls {certificate.chain} {certificate.key}\n\tbind 127.0.0.1"
    given = (("registry.example.com {", site), ("reverse_proxy 127.0.0.1:5000", f"reverse_proxy {registry}"))
    text = replaced((EXAMPLES / "Caddyfile").read_text(), (*given, *changes))
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + text)
    command = [find("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    with _running(command, folder / "log", port, home=folder):
        yield f"localhost:{port}"


def replaced(text: str, changes: Sequence[tuple[str, str]]) -> str:
    for old, new in changes:
        assert old in text, f"the example has no {old!r}"
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path, port: int, home: Path | None = None) -> Iterator[None]:
    environment = {**os.environ, **({"HOME": str(home), "XDG_DATA_HOME": str(home)} if home else {})}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(30)
