"""What a test holds: one registry, who may push to it, and ways to fill it and to look into it."""

from __future__ import annotations

import argparse
import base64
import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regserver.cli.api import Api
from regserver.cli.distribution import Repository
from regserver.cli.importing import import_layout
from regserver.cli.output import Output
from regserver.cli.session import Session
from regserver.cli.words import Reference
from regserver.testing.faults import Faults
from regserver.testing.images import Image, filling, make_image, make_index
from regserver.testing.recording import Requests
from regserver.testing.server import RegistryServer


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password for ``docker login HOST``."""

    username: str
    password: str
    host: str

    @property
    def basic(self) -> str:
        """The value of an Authorization header; the server takes it for every request, as well as a token."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def docker_config(self) -> dict[str, Any]:
        """The content of a ``config.json`` that docker, podman, skopeo, crane, oras and regctl read."""
        return {"auths": {self.host: {"auth": self.basic.removeprefix("Basic ")}}}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a layout held: its tags, and the digests of its manifests in the order in which they were pushed."""

    tags: Sequence[str]
    manifests: Sequence[str]


class Registry:
    """Names are those of images, ``app`` or ``team/app``, and may end in ``:TAG``; without one it is ``latest``."""

    def __init__(self, server: RegistryServer, name: str, username: str, password: str) -> None:
        self.server = server
        self.name = name
        self.credentials = Credentials(username, password, server.host)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``"""
        return self.server.url

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``, the first part of a reference."""
        return self.server.host

    @property
    def faults(self) -> Faults:
        """What is to go wrong from now on."""
        return self.server.faults

    @property
    def requests(self) -> Requests:
        """What clients have asked so far; nothing that the methods of this class did."""
        return self.server.requests

    def repository(self, name: str) -> str:
        """The repository of an image, as it stands in paths below ``/v2/``."""
        return f"{self.name}/{_split(name)[0]}"

    def reference(self, name: str) -> str:
        """``HOST/REGISTRY/IMAGE:TAG``, as ``docker pull`` takes it."""
        image, tag = _split(name)
        return f"{self.host}/{self.name}/{image}:{tag}"

    def push_image(
        self,
        name: str = "app",
        *,
        layers: int = 1,
        layer_bytes: int = 1024,
        files: Sequence[Mapping[str, bytes]] = (),
        platforms: Sequence[str] = (),
    ) -> Image:
        """Push an image, made for this: ``files`` are its layers' by their paths, or it has so many ``layers`` of about
        ``layer_bytes`` each. With ``platforms`` (``linux/arm64``) it is an index with an image for each."""
        contents: list[Mapping[str, bytes]] = [*files] or [*filling(name, layers, layer_bytes)]
        image = self._made(self.reference(name), contents, platforms)
        there = self._there(name)
        for child in image.children:
            _push(there, child, child.digest)
        _push(there, image, _split(name)[1])
        return image

    def load_layout(self, path: Path | str, name: str) -> Loaded:
        """Push what an OCI image layout holds, a folder or a tar: each image under its own tag, or, where ``name`` has
        a tag, one image under that. Raises CommandError for what is no layout."""
        image, colon, tag = name.partition(":")
        session = _Quiet(argparse.Namespace(server=self.server.private_url, token=self.server.admin_token), {})
        reference = Reference(self.name, image, tag if colon else None)
        import_layout(session, argparse.Namespace(source=Path(path), image=reference))
        return Loaded(session.out.told["tags"], session.out.told["manifests"])

    def tags(self, name: str) -> list[str]:
        return self._there(name).tags()

    def manifest(self, name: str) -> bytes:
        """What a tag names, byte for byte."""
        return self._there(name).manifest(_split(name)[1]).content

    def blob(self, name: str, digest: str) -> bytes:
        return b"".join(self._there(name).blob(digest))

    def _made(self, reference: str, contents: list[Mapping[str, bytes]], platforms: Sequence[str]) -> Image:
        if not platforms:
            return make_image(reference, contents)
        children = {platform: make_image(reference, contents, platform) for platform in platforms}
        return make_index(reference, children)

    def _there(self, name: str) -> Repository:
        login = self.credentials
        return Repository(self.server.private_url, self.repository(name), login.username, login.password)


@contextlib.contextmanager
def serve(root: Path | None = None, *, like: Path | None = None, **settings: Any) -> Iterator[Registry]:
    """A server with one empty registry, for programs other than pytest. Without ``root`` what it stores goes with it.

    ``like`` and ``settings`` are as in ``RegistryServer``. Raises UnmetFault at the end, like the fixture."""
    with contextlib.ExitStack() as opened:
        if root is None:
            root = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="regserver-"))) / "root"
        registry = opened.enter_context(RegistryServer(root, like=like, **settings)).create_registry()
        yield registry
        registry.faults.check()


class _Kept(Output):
    """What a command would print."""

    told: Any = None

    def data(self, value: Any) -> None:
        self.told = value


class _Quiet(Session):
    """A command's session whose answer stays here, and that reads no login of the person's own."""

    out: _Kept

    def __init__(self, options: argparse.Namespace, environment: Mapping[str, str]) -> None:
        super().__init__(options, environment)
        self.out = _Kept(as_json=True)
        self.api = Api(options.server, options.token)


def _push(there: Repository, image: Image, reference: str) -> None:
    for digest, content in image.blobs.items():
        there.push_blob(digest, len(content), [content])
    there.push_manifest(reference, image.media_type, image.content)


def _split(name: str) -> tuple[str, str]:
    image, _, tag = name.partition(":")
    return image, tag or "latest"
