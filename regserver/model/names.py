"""Names: repositories, registries, images, tags, and the references that a manifest is asked for by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from regserver.errors import ErrorCode, RegistryError
from regserver.model.digest import Digest

COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
DEFAULT_REGISTRY = "library"
RESERVED_REGISTRIES = frozenset({"v1", "v2", "token", "api", "admin", "ui"})
MAX_REPOSITORY_LENGTH = 255
MAX_REGISTRY_LENGTH = 63

PATH = rf"{COMPONENT}(?:/{COMPONENT})*"
TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"

_COMPONENT = re.compile(COMPONENT, re.ASCII)
_REPOSITORY = re.compile(PATH, re.ASCII)
_TAG = re.compile(TAG, re.ASCII)


def is_registry_name(text: str) -> bool:
    """One path component of an OCI name, at most 63 characters. Reserved words are the creator's business."""
    return len(text) <= MAX_REGISTRY_LENGTH and _COMPONENT.fullmatch(text) is not None


def is_image_name(text: str) -> bool:
    return len(text) < MAX_REPOSITORY_LENGTH and _REPOSITORY.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class RepositoryName:
    """``<registry>/<image>``: the OCI name ``my-images/team/api`` is image ``team/api`` of registry ``my-images``.

    A name of one component is an image of the default registry, so ``alpine`` and ``library/alpine`` are equal.
    """

    registry: str
    image: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises RegistryError NAME_INVALID unless the text is an OCI name of at most 255 characters."""
        if len(text) > MAX_REPOSITORY_LENGTH or not _REPOSITORY.fullmatch(text):
            raise RegistryError(ErrorCode.NAME_INVALID, {"name": text[:MAX_REPOSITORY_LENGTH]})
        registry, slash, image = text.partition("/")
        name = cls(registry, image) if slash else cls(DEFAULT_REGISTRY, text)
        if len(str(name)) > MAX_REPOSITORY_LENGTH:  # alpine is library/alpine, so both must be names
            raise RegistryError(
                ErrorCode.NAME_INVALID, {"name": text, "reason": "over 255 characters with its registry"}
            )
        if len(name.registry) > MAX_REGISTRY_LENGTH:
            raise RegistryError(ErrorCode.NAME_INVALID, {"name": text, "reason": "first component over 63 characters"})
        return name

    def __str__(self) -> str:
        return f"{self.registry}/{self.image}"


@dataclass(frozen=True, slots=True, order=True)
class Tag:
    """A tag (distribution spec: ``[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}``). Always well-formed."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises RegistryError MANIFEST_INVALID: the closed list of codes has none for a malformed tag."""
        if not _TAG.fullmatch(text):
            raise RegistryError(ErrorCode.MANIFEST_INVALID, {"tag": text[:128]}, message="the tag is not well-formed")
        return cls(text)

    def __str__(self) -> str:
        return self.text


Reference = Tag | Digest


def parse_reference(text: str) -> Reference:
    """A digest where there is a colon (a tag cannot hold one), else a tag. Raises what the two parsers raise."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)
