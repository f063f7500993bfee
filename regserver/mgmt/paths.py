"""Parts of paths, parsed. What cannot be the name of anything names nothing: 404.

An image's name holds slashes, sent as they are or as ``%2F``. They are told apart in the path as it was sent, because
the router gives both decoded.
"""

from __future__ import annotations

from urllib.parse import unquote

from aiohttp import web

from regserver.errors import ErrorCode, RegistryError
from regserver.model.access import Target
from regserver.model.digest import Digest
from regserver.model.ids import is_id
from regserver.model.names import RepositoryName, Tag, is_image_name
from regserver.web.context import Call

_BEFORE_IMAGE = 5  # "", v1, registries, the id, images
_TAGS = "tags"


def registry_id(request: web.Request) -> str:
    """Raises RegistryError NOT_FOUND."""
    return _identity(request, "registry_id", "reg")


def job_id(request: web.Request) -> str:
    """Raises RegistryError NOT_FOUND."""
    return _identity(request, "job_id", "gc")


def token_id(request: web.Request) -> str:
    """Raises RegistryError NOT_FOUND."""
    return _identity(request, "token_id", "tok")


def _identity(request: web.Request, part: str, prefix: str) -> str:
    text = request.match_info[part]
    if not is_id(prefix, text):
        raise RegistryError(ErrorCode.NOT_FOUND)
    return text


def robot_id(request: web.Request) -> str:
    """Raises RegistryError NOT_FOUND."""
    return _identity(request, "robot_id", "rob")


async def image(request: web.Request, call: Call, *, after: int) -> Target:
    """The image of the path, whose last ``after`` segments belong to no name. Raises RegistryError NOT_FOUND,
    REQUEST_INVALID where the path can be read in two ways."""
    segments = request.rel_url.raw_path.split("/")[_BEFORE_IMAGE:]
    name = image_name(segments[: len(segments) - after])
    registry = await call.services.registries.get(registry_id(request))
    return Target(registry.id, RepositoryName(registry.name, name))


def image_name(segments: list[str]) -> str:
    """The name from its encoded path segments. Raises RegistryError REQUEST_INVALID, NOT_FOUND."""
    # ``a/tags/b`` may be tag b of image a, or an image of that name: deleting the wrong one of them cannot be undone.
    if len(segments) > 1 and _TAGS in segments:
        raise RegistryError(
            ErrorCode.REQUEST_INVALID,
            message="the path can be read in two ways: send the slashes of the image's name as %2F",
        )
    name = "/".join(unquote(segment, errors="replace") for segment in segments)
    if not is_image_name(name):
        raise RegistryError(ErrorCode.NOT_FOUND)
    return name


def digest(request: web.Request) -> Digest:
    """Raises RegistryError NOT_FOUND."""
    try:
        return Digest.parse(request.match_info["digest"])
    except RegistryError:
        raise RegistryError(ErrorCode.NOT_FOUND) from None


def tag(request: web.Request, *, before: int = 0) -> Tag:
    """The tag of the path, behind which ``before`` segments stand. Raises RegistryError NOT_FOUND."""
    try:
        return Tag.parse(unquote(request.rel_url.raw_path.rsplit("/", before + 1)[1], errors="replace"))
    except RegistryError:
        raise RegistryError(ErrorCode.NOT_FOUND) from None
