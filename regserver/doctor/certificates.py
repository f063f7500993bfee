"""How long certificates are good, and whether a pair of files is one."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from regserver.doctor.findings import Findings, error, ok, warning

EARLY_DAYS = 21  # automatic renewal has failed for a week by then: it starts at thirty


def expiry(check: str, not_after: str) -> Findings:
    """``not_after`` as OpenSSL writes it: ``Jun  1 12:00:00 2027 GMT``."""
    yield from until(check, datetime.fromtimestamp(ssl.cert_time_to_seconds(not_after), UTC))


def until(check: str, end: datetime) -> Findings:
    days = (end.timestamp() - time.time()) / 86400
    if days < 0:
        yield error(check, f"the certificate has expired on {end:%Y-%m-%d}", "renew it, then restart the server")
    elif days < EARLY_DAYS:
        yield warning(check, f"the certificate ends in {days:.0f} days", "renew it; the server reads it when it starts")
    else:
        yield ok(check, f"the certificate is good until {end:%Y-%m-%d}")


def look_at_files(certificate: Path, key: Path, host: str | None) -> Findings:
    """The pair that ``serve`` would be given; ``host`` is the public name, where one is set."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    except (OSError, ValueError) as failed:
        said = getattr(failed, "strerror", None) or str(failed)
        yield error("tls", f"{certificate}, {key}: {said}", "a chain and its key in PEM are needed, without passphrase")
        return
    leaf = chain[0]
    yield from until("tls", leaf.not_valid_after_utc)
    if key.stat().st_mode & 0o077:
        yield warning("tls", f"others may read the private key {key}", f"run: chmod 600 {key}")
    if len(chain) == 1 and leaf.issuer != leaf.subject:
        yield warning(
            "tls", f"{certificate} holds no intermediate certificate", "append them: docker asks for the whole chain"
        )
    names = _names(leaf)
    if host is not None and not any(_covers(name, host) for name in names):
        yield error("tls", f"the certificate is for {', '.join(names) or 'nobody'}, not for {host}",
                    f"get one whose names include {host}, or change --public-url")  # fmt: skip


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def _covers(name: str, host: str) -> bool:
    """RFC 6125 §6.4.3: a star stands for the whole leftmost label."""
    if name.startswith("*."):
        return host.partition(".")[2].lower() == name[2:].lower()
    return host.lower() == name.lower()
