"""The RSA keys that sign passwords and tokens: ``<root>/keys/<key id>.pem``, 0600 in a folder of 0700.

Passwords are signed by the key itself (RS256), bearer tokens by a key on the curve P-256 that is derived from it
(ES256): it signs twenty times as fast, comes and goes with its RSA key under the same id, and is nothing more to keep.

The catalog says which key signs and which are retired; the folder only holds bytes. Order: a transaction announces a
key before its file is made; the file is durable before a transaction makes it active; a transaction has retired it, and
no password needs it, before its file goes. So a crash leaves no key that nothing knows.
No default key exists anywhere (CVE-2026-4404), and a file name comes from the catalog, never from a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from regserver.model.ids import is_id, new_id
from regserver.model.times import now_ms
from regserver.storage.catalog import accounts
from regserver.storage.sql.port import Database, Transaction

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

FOLDER = "keys"
LONGEST_TOKEN_SECONDS = 900  # what the setting token_seconds may be at most
LEEWAY_SECONDS = 60  # how far two clocks may be apart when a token's times are judged
_BITS = 2048
_PRIVATE, _PUBLIC = ".pem", ".pub.pem"
_DERIVED = b"regserver bearer tokens, ES256"
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # SEC 2, secp256r1
_BEGIN = b"-----BEGIN"


class KeyRefused(Exception):
    """A signing key cannot be used. One line for the operator; never a part of the key."""


class Keys:
    """What was read of the folder. A key never changes under its id, so nothing here can be out of date.

    ``cryptography`` is imported where it is first needed: the command line's other verbs start without it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pems: dict[str, bytes] = {}
        self._private: dict[str, RSAPrivateKey] = {}
        self._public: dict[str, RSAPublicKey] = {}
        self._token_private: dict[str, EllipticCurvePrivateKey] = {}
        self._token_public: dict[str, EllipticCurvePublicKey] = {}

    @classmethod
    async def load(cls, root: Path, db: Database) -> Keys:
        """The keys of an installation; at its first start they are made, and its id with them.

        Raises KeyRefused if a key may be read by others or the one that signs is missing; OSError, DatabaseFailed."""
        active = await accounts.active_key(db) or await _begin(root, db)
        await db.write(accounts.give_up_announced_keys)  # now that one is active: of first starts at once none loses it
        await tidy(root, db)
        keys = cls(root / FOLDER)
        await asyncio.to_thread(keys._read_folder)
        await asyncio.to_thread(keys.private, active)  # a damaged one is found now, not by the first login
        return keys

    def _read_folder(self) -> None:
        make_folder(self._folder)
        for path in sorted(self._folder.glob(f"*{_PRIVATE}")):
            self._pems.setdefault(path.name.partition(".")[0], _read(path))  # the private half sorts first

    def _need(self, key_id: str) -> bytes:
        """The PEM of a key that the catalog names; read now if it came after the start."""
        pem = self._pems.get(key_id)
        if pem is None:
            pem = self._pems[key_id] = _read_either(self._folder, key_id)
        return pem

    def private(self, key_id: str) -> RSAPrivateKey:
        """Raises KeyRefused if the file is missing or no RSA key. ``key_id`` is the catalog's."""
        found = self._private.get(key_id)
        if found is None:
            found = self._private[key_id] = _parse_private(key_id, self._need(key_id))
        return found

    def public(self, key_id: str) -> RSAPublicKey:
        """The same for verifying; the public half is enough. ``key_id`` is the catalog's."""
        found = self._public.get(key_id)
        if found is None:
            found = self._public[key_id] = _parse_public(key_id, self._need(key_id))
        return found

    def sign(self, key_id: str, signed: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3): the same bytes give the same signature."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        return self.private(key_id).sign(signed, PKCS1v15(), SHA256())

    def token_public(self, key_id: str) -> EllipticCurvePublicKey:
        """What verifies the bearer tokens of that key. Raises KeyRefused. ``key_id`` is the catalog's."""
        found = self._token_public.get(key_id)
        if found is None:
            found = self._token_public[key_id] = _parse_token_public(key_id, self._need(key_id))
        return found

    def sign_token(self, key_id: str, signed: bytes) -> bytes:
        """ECDSA on P-256 with SHA-256, as R and S in 32 bytes each (RFC 7518 §3.4)."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        key = self._token_private.get(key_id)
        if key is None:
            key = self._token_private[key_id] = derived(self.private(key_id))
        r, s = decode_dss_signature(key.sign(signed, ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def derived(key: RSAPrivateKey) -> EllipticCurvePrivateKey:
    """The key of the same owner on P-256: always the same one (HKDF, RFC 5869; FIPS 186-4 B.4.1 for the reduction)."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    secret = key.private_numbers().d.to_bytes(_BITS // 8, "big")
    stream = HKDF(SHA256(), length=48, salt=None, info=_DERIVED).derive(secret)
    return derive_private_key(int.from_bytes(stream, "big") % (_P256_ORDER - 1) + 1, SECP256R1())


async def _begin(root: Path, db: Database) -> str:
    """The first start: makes the key that signs and, in the same transaction, the installation's id.

    Of two first starts at once one wins, and both go on with its key."""
    key_id = await _generate(root, db)
    active = await db.write(partial(_establish, key_id))
    if active != key_id:
        await asyncio.to_thread(_remove, root / FOLDER, key_id)  # no transaction has ever named it
    return active


async def _establish(key_id: str, tx: Transaction) -> str:
    await accounts.establish(tx)
    await accounts.take_announced_key(tx, key_id)
    active = await accounts.active_key(tx)
    if active is None:
        await accounts.activate_key(tx, key_id, now_ms())
    return active or key_id


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did. ``held``: retired keys that stay, and the robots whose passwords need them."""

    active: str
    retired: str | None
    held: tuple[tuple[str, tuple[str, ...]], ...]
    removed: tuple[str, ...]


async def rotate(root: Path, db: Database, *, token_seconds: int = LONGEST_TOKEN_SECONDS) -> Rotation:
    """Makes a new key the one that signs, and drops what no robot and no token needs any more.

    Safe beside running servers: they read which key signs with every signature, and load one they do not know.
    A server that starts meanwhile may give the new key up: then nothing has changed. Raises KeyRefused, OSError,
    DatabaseFailed."""
    key_id = await _generate(root, db)
    try:
        retired = await db.write(partial(_activate, key_id))
    except KeyRefused:
        await asyncio.to_thread(_remove, root / FOLDER, key_id)
        raise
    removed = await tidy(root, db, token_seconds=token_seconds)
    known = [(old, tuple(await accounts.usernames_of_key(db, old))) for old, _ in await accounts.retired_keys(db)]
    held = tuple((old, usernames) for old, usernames in known if usernames)
    return Rotation(key_id, retired, held, removed)


async def _activate(key_id: str, tx: Transaction) -> str | None:
    if not await accounts.take_announced_key(tx, key_id):
        raise KeyRefused("a server that started meanwhile has given the new key up; run again: regserver keys rotate")
    return await accounts.activate_key(tx, key_id, now_ms())


async def tidy(root: Path, db: Database, *, token_seconds: int = LONGEST_TOKEN_SECONDS) -> tuple[str, ...]:
    """Drops private keys that no robot names, and public ones whose tokens have ended. Returns what went entirely."""
    removed: list[str] = []
    lifetime_ms = (token_seconds + 2 * LEEWAY_SECONDS) * 1000
    for key_id, retired_at in await accounts.retired_keys(db):
        if await accounts.usernames_of_key(db, key_id):  # asked after it: no row that comes later names a retired key
            continue
        if now_ms() < retired_at + lifetime_ms:
            await asyncio.to_thread(_keep_public_only, root / FOLDER, key_id)
            continue
        await asyncio.to_thread(_remove, root / FOLDER, key_id)  # files before the row that leads to them
        await db.write(partial(accounts.forget_key, key_id=key_id))
        removed.append(key_id)
    return tuple(removed)


async def _generate(root: Path, db: Database) -> str:
    key_id = new_id("key")
    await db.write(partial(accounts.announce_key, key_id=key_id))
    await asyncio.to_thread(generate, root, key_id)
    return key_id


def generate(root: Path, key_id: str | None = None) -> str:
    """Makes a key and its durable file; it signs nothing before the catalog names it. Returns its id."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    make_folder(root / FOLDER)
    key_id = key_id or new_id("key")
    key = generate_private_key(public_exponent=65537, key_size=_BITS)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(root / FOLDER / f"{key_id}{_PRIVATE}", pem)
    return key_id


def make_folder(folder: Path) -> None:
    """0700, its own entry durable. Raises KeyRefused if others may change what is in it."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(folder.parent)
    if folder.stat().st_mode & 0o077:
        raise KeyRefused(f"{folder}: others may enter the folder of the signing keys; run: chmod 700 {folder}")


def _keep_public_only(folder: Path, key_id: str) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    private = folder / f"{key_id}{_PRIVATE}"
    if not private.exists():
        return
    key = _parse_private(key_id, _read(private))
    form = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    content = key.public_key().public_bytes(*form) + derived(key).public_key().public_bytes(*form)
    _write(folder / f"{key_id}{_PUBLIC}", content)
    private.unlink()  # the public halves are durable
    _sync(folder)


def _remove(folder: Path, key_id: str) -> None:
    for suffix in (_PRIVATE, _PUBLIC):
        path = folder / f"{key_id}{suffix}"
        for name in (path, _staged(path)):
            name.unlink(missing_ok=True)
    _sync(folder)


def _staged(path: Path) -> Path:
    """Where its bytes are until they are whole."""
    return path.with_name(f".{path.name}.new")


def _write(path: Path, content: bytes) -> None:
    """bytes → fsync → rename → fsync of the folder: the name never stands for half a key. Mode 0600 from the start."""
    staged = _staged(path)
    staged.unlink(missing_ok=True)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    staged.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    if path.stat().st_mode & 0o077:
        raise KeyRefused(f"{path}: others may read this signing key; run: chmod 600 {path}")
    return path.read_bytes()


def _read_either(folder: Path, key_id: str) -> bytes:
    if not is_id("key", key_id):
        raise KeyRefused("the catalog names a signing key whose id is malformed")
    for suffix in (_PRIVATE, _PUBLIC):
        with contextlib.suppress(FileNotFoundError):
            return _read(folder / f"{key_id}{suffix}")
    raise KeyRefused(f"{folder / key_id}{_PRIVATE} is missing and needed: restore it, or run: regserver keys rotate")


def _parse_private(key_id: str, pem: bytes) -> RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with contextlib.suppress(ValueError, TypeError):
        key = load_pem_private_key(pem, password=None)
        if isinstance(key, RSAPrivateKey):
            return key
    raise KeyRefused(f"{key_id}{_PRIVATE} does not hold an RSA private key in PEM")


def _parse_public(key_id: str, pem: bytes) -> RSAPublicKey:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY" in pem:
        return _parse_private(key_id, pem).public_key()
    with contextlib.suppress(ValueError, TypeError):
        key = load_pem_public_key(pem)
        if isinstance(key, RSAPublicKey):
            return key
    raise KeyRefused(f"{key_id}{_PUBLIC} does not hold an RSA public key in PEM")


def _parse_token_public(key_id: str, pem: bytes) -> EllipticCurvePublicKey:
    """Derived from the private key, or the second one of a file of public halves."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY" in pem:
        return derived(_parse_private(key_id, pem)).public_key()
    with contextlib.suppress(ValueError, TypeError):
        key = load_pem_public_key(_BEGIN + pem.rpartition(_BEGIN)[2])
        if isinstance(key, EllipticCurvePublicKey):
            return key
    raise KeyRefused(f"{key_id}{_PUBLIC} does not hold the public key of bearer tokens in PEM")
