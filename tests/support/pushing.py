"""Pushing and pulling over HTTP, request by request, at a registry that `support.registry` serves."""

import dataclasses
import hashlib
import io
import itertools
import json
from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Any

from aiohttp import encode_basic_auth
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from regserver.storage.catalog import registries
from regserver.web.context import SERVICES
from support.registry import Client

OCTETS = "application/octet-stream"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


_contents = itertools.count()

Data = bytes | io.BytesIO | AsyncIterable[bytes] | None


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def make_content(size: int = 100) -> bytes:
    """Bytes that no other call gives."""
    seed = f"content {next(_contents)} ".encode()
    return (seed * (size // len(seed) + 1))[: max(size, len(seed))]


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The first error's code (distribution spec, "Error Codes")."""
        return str(self.json["errors"][0]["code"])

    @property
    def refusal(self) -> tuple[int, str]:
        return self.status, self.code


@dataclasses.dataclass(frozen=True)
class Registry:
    """A served registry as one caller sees it."""

    client: Client
    credentials: str | None = None  # an Authorization header

    def seen_by(self, credentials: str | None) -> "Registry":
        return Registry(self.client, credentials)

    async def send(
        self,
        method: str,
        path: str,
        *,
        data: Data = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        query: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """One request; the path goes out exactly as written, the query encoded."""
        url = URL(path, encoded=True)
        url = url.extend_query(query) if query else url
        lines = CIMultiDict(headers)
        if self.credentials is not None:
            lines.add("Authorization", self.credentials)
        if isinstance(data, bytes):
            data = io.BytesIO(data)
        sent = self.client.request(method, url, data=data, headers=lines, skip_auto_headers=["Content-Type"])
        async with sent as response:
            return Answer(response.status, response.headers, await response.read())

    async def make_robot(self, name: str, *, public: bool = False, quota_bytes: int | None = None) -> str:
        """A registry of that name; its robot's credentials."""
        services = self.client.app[SERVICES]  # type: ignore[index]
        row = await services.registries.create(name, public=public, quota_bytes=quota_bytes)
        return encode_basic_auth(*await services.robots.credentials(row.id))


async def id_of(registry: Registry, name: str) -> str:
    services = registry.client.app[SERVICES]  # type: ignore[index]
    row = await registries.by_name(services.core.db, name)
    assert row is not None
    return row.id


async def draw_token(registry: Registry, scope: str) -> str:
    """A bearer token of the caller's for that scope, as an Authorization header."""
    answer = await registry.send("GET", "/token", query={"scope": scope})
    assert answer.status == 200, answer
    return f"Bearer {answer.json['token']}"


async def start_upload(registry: Registry, repository: str, **query: str) -> str:
    """The location of a fresh session."""
    answer = await registry.send("POST", f"/v2/{repository}/blobs/uploads/", query=query)
    assert answer.status == 202, answer
    return answer.headers["Location"]


async def push_blob(
    registry: Registry, repository: str, content: bytes | None = None, *, algorithm: str = "sha256"
) -> str:
    """Its digest. As docker does it: POST, PATCH, PUT."""
    content = make_content() if content is None else content
    digest = digest_of(content, algorithm)
    location = await start_upload(registry, repository)
    sent = await registry.send("PATCH", location, data=content, headers={"Content-Type": OCTETS})
    assert sent.status == 202, sent
    done = await registry.send("PUT", sent.headers["Location"], query={"digest": digest})
    assert done.status == 201, done
    return digest


def descriptor(content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


@dataclasses.dataclass(frozen=True)
class Pushed:
    """A manifest that was accepted; ``content`` is exactly what was sent."""

    digest: str
    content: bytes
    media_type: str
    answer: Answer

    @property
    def document(self) -> Any:
        return json.loads(self.content)

    @property
    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


async def put_manifest(
    registry: Registry, repository: str, reference: str, document: Any, media_type: str | None = IMAGE, **more: Any
) -> Answer:
    """The raw answer. ``document`` is bytes, or what becomes JSON."""
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = {"Content-Type": media_type, **more.pop("headers", {})} if media_type else more.pop("headers", {})
    return await registry.send("PUT", f"/v2/{repository}/manifests/{reference}", data=content, headers=headers, **more)


async def push_manifest(
    registry: Registry, repository: str, document: Any, reference: str | None = None, media_type: str = IMAGE
) -> Pushed:
    content = json.dumps(document).encode()
    answer = await put_manifest(registry, repository, reference or digest_of(content), content, media_type)
    assert answer.status == 201, answer
    return Pushed(digest_of(content), content, media_type, answer)


async def make_image(registry: Registry, repository: str, layers: int = 1, **fields: Any) -> dict[str, Any]:
    """An image manifest whose config and layers have been pushed."""
    config, contents = make_content(), [make_content() for _ in range(layers)]
    for content in (config, *contents):
        await push_blob(registry, repository, content)
    return {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(config, CONFIG),
        "layers": [descriptor(content, LAYER) for content in contents],
        **fields,
    }


async def push_image(
    registry: Registry, repository: str, reference: str | None = None, *, layers: int = 1, **fields: Any
) -> Pushed:
    return await push_manifest(
        registry, repository, await make_image(registry, repository, layers, **fields), reference
    )


async def push_index(
    registry: Registry, repository: str, children: Sequence[Pushed], reference: str | None = None, **fields: Any
) -> Pushed:
    listed = [child.descriptor for child in children]
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed, **fields}
    return await push_manifest(registry, repository, document, reference, INDEX)
