"""Content digests (OCI image spec, "Digests"): an algorithm and the lower-case hex of its output."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from regserver.errors import ErrorCode, RegistryError


class Hasher(Protocol):
    """What hashlib's objects offer of what is used here."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> Hasher: ...


class Algorithm(StrEnum):
    """The two algorithms that the image spec registers and this registry accepts."""

    SHA256 = "sha256"
    SHA512 = "sha512"

    @classmethod
    def parse(cls, text: str) -> Algorithm:
        """Raises RegistryError DIGEST_INVALID for an algorithm that is not registered."""
        try:
            return cls(text)
        except ValueError:
            raise RegistryError(ErrorCode.DIGEST_INVALID, {"algorithm": text[:64]}) from None

    def hasher(self) -> Hasher:
        return hashlib.sha256() if self is Algorithm.SHA256 else hashlib.sha512()


FORM = r"(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})"
_FORM = re.compile(FORM, re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """``sha256:<64 hex>`` or ``sha512:<128 hex>``. A value of this type is always well-formed."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises RegistryError DIGEST_INVALID for anything but the two exact forms."""
        if not _FORM.fullmatch(text):
            raise RegistryError(ErrorCode.DIGEST_INVALID, {"digest": text[:160]})
        return cls(text)

    @classmethod
    def of(cls, content: bytes, algorithm: Algorithm = Algorithm.SHA256) -> Self:
        hasher = algorithm.hasher()
        hasher.update(content)
        return cls(f"{algorithm}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm(self.text[:6])

    @property
    def hex(self) -> str:
        return self.text[7:]

    def __str__(self) -> str:
        return self.text
