"""Where the files of a store stand.

    <root>/uploads/<key>                             staged
    <root>/blobs/<algorithm>/<aa>/<hex>.<key>        published; aa: the first two digits of hex
    <root>/quarantine/<algorithm>/<hex>.<key>        was published and is not what its name says
    <root>/probe                                     for as long as a probe lasts

Whatever goes into a path is matched first: ValueError for a key or a digest of another form. In the other direction, a
name that this store never gave parses to None; so it is never reported, and what is never reported is never deleted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from regserver.model.digest import Algorithm, Digest
from regserver.storage.blobs.port import StoredFile

_KEY = re.compile(r"[0-9a-f]{32}", re.ASCII)
_HEX = {
    Algorithm.SHA256: re.compile(r"[0-9a-f]{64}", re.ASCII),
    Algorithm.SHA512: re.compile(r"[0-9a-f]{128}", re.ASCII),
}


@dataclass(frozen=True, slots=True)
class Layout:
    root: Path

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def probe(self) -> Path:
        return self.root / "probe"

    def algorithm(self, algorithm: Algorithm) -> Path:
        return self.blobs / algorithm.value

    def staged(self, key: str) -> Path:
        return self.uploads / checked_key(key)

    def published(self, key: str, digest: Digest) -> Path:
        name = _name(key, digest)
        return self.blobs / digest.algorithm.value / name[:2] / name

    def quarantined(self, key: str, digest: Digest) -> Path:
        return self.quarantine / digest.algorithm.value / _name(key, digest)


def _name(key: str, digest: Digest) -> str:
    if not _HEX[digest.algorithm].fullmatch(digest.hex):
        raise ValueError("not a digest")
    return f"{digest.hex}.{checked_key(key)}"


def checked_key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError("a key is 32 lower-case hexadecimal digits")
    return key


def parse_staged(name: str) -> StoredFile | None:
    return StoredFile(name, None) if _KEY.fullmatch(name) else None


def parse_published(algorithm: Algorithm, directory: str, name: str) -> StoredFile | None:
    return parse_quarantined(algorithm, name) if name[:2] == directory else None


def parse_quarantined(algorithm: Algorithm, name: str) -> StoredFile | None:
    digits, _, key = name.partition(".")
    if not _HEX[algorithm].fullmatch(digits) or not _KEY.fullmatch(key):
        return None
    return StoredFile(key, Digest.parse(f"{algorithm}:{digits}"))
