"""The administrator's token: given by the operator, else made once into ``<root>/admin-token``.

There is no default one (CVE-2026-4404).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import string
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from regserver.config import Settings

VARIABLE = "REGSERVER_ADMIN_TOKEN"
FILE = "admin-token"
USERNAME = "admin"
PREFIX = "rsv_"
_ALPHABET = string.digits + string.ascii_letters
_RANDOM_LENGTH, _CHECKSUM_LENGTH = 32, 6  # 190 bits; 62^6 holds a CRC-32
_LEAST_LENGTH = 16


class AdminTokenRefused(Exception):
    """The administrator's token cannot be used. One line for the operator; never the token."""


def load(settings: Settings, environ: Mapping[str, str]) -> str:
    """The token from ``--admin-token-file``, else from the environment, else from the root folder, made if missing.

    Raises AdminTokenRefused, OSError."""
    if settings.admin_token_file is not None:
        return _checked(_read(settings.admin_token_file), str(settings.admin_token_file))
    if VARIABLE in environ:
        return _checked(environ[VARIABLE].strip(), VARIABLE)
    path = settings.root / FILE
    if not path.exists():
        _make(path)
    for left in path.parent.glob(f".{FILE}.*"):  # of a start that ended between making a token and giving it its name
        left.unlink(missing_ok=True)
    if path.stat().st_mode & 0o077:
        raise AdminTokenRefused(f"{path}: others may read the administrator's token; run: chmod 600 {path}")
    return _checked(_read(path), str(path))


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except UnicodeDecodeError:
        raise AdminTokenRefused(f"{path}: the administrator's token must be printable ASCII") from None


def _checked(token: str, source: str) -> str:
    if len(token) < _LEAST_LENGTH:
        raise AdminTokenRefused(f"{source}: the administrator's token needs at least {_LEAST_LENGTH} characters")
    if not all("!" <= character <= "~" for character in token):
        raise AdminTokenRefused(f"{source}: the administrator's token must be printable ASCII without spaces")
    return token


def _make(path: Path) -> None:
    """Durable before it is used, 0600 from the start, and the first of two servers that start at once wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    staged = path.with_name(f".{FILE}.{secrets.token_hex(8)}")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(new_token() + "\n")
            file.flush()
            os.fsync(file.fileno())
        if not path.exists():
            os.link(staged, path)
    except (FileExistsError, FileNotFoundError):  # the latter: it has tidied, which it does once its token stands
        return  # the other server's stands
    finally:
        staged.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def new_token() -> str:
    """``rsv_``, random characters, and a checksum by which scanners for leaked secrets know it."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return PREFIX + body + _checksum(body)


def is_token(text: str) -> bool:
    """Whether the text has the form of a generated token and its checksum holds."""
    body, checksum = text[len(PREFIX) : -_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    return text.startswith(PREFIX) and len(body) == _RANDOM_LENGTH and checksum == _checksum(body)


def _checksum(body: str) -> str:
    """CRC-32 in base 62, six digits."""
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def same(given: str, token: str) -> bool:
    """In a time that depends on neither (CVE-2023-20902)."""
    return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), _digest(token))


@lru_cache(maxsize=4)
def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def fingerprint(token: str) -> str:
    """What a bearer token of the administrator carries instead: with another token at the next start it is dead."""
    return hashlib.sha256(b"regserver administrator\0" + token.encode()).hexdigest()[:32]
