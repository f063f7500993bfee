"""What is pushed before a workload: an image of small blobs, by the requests that every registry understands."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.processes import NotMeasured
from benchmarks.servers import REPOSITORY, Server

IMAGE = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MARK = "@" * 16  # load.c writes a number over it


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def headers_of(server: Server) -> dict[str, str]:
    name, _, value = server.header.partition(": ")
    return {name: value} if name else {}


def descriptor(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest, "size": size}


def manifest(config: dict[str, object], layers: Sequence[dict[str, object]], note: str = "") -> bytes:
    document: dict[str, object] = {"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": list(layers)}
    if note:
        document["annotations"] = {"bench": note}
    return json.dumps(document).encode()


def push_blob(server: Server, content: bytes, repository: str = REPOSITORY) -> str:
    """Its digest."""
    digest = digest_of(content)
    with Talk(server) as talk:
        location = talk.ask("POST", f"/v2/{repository}/blobs/uploads/", 202)
        separator = "&" if "?" in location else "?"
        kind = {"Content-Type": "application/octet-stream"}
        talk.ask("PUT", f"{location}{separator}digest={digest}", 201, content, kind)
    return digest


def push_manifest(server: Server, body: bytes, tag: str, repository: str = REPOSITORY) -> str:
    with Talk(server) as talk:
        talk.ask("PUT", f"/v2/{repository}/manifests/{tag}", 201, body, {"Content-Type": IMAGE})
    return digest_of(body)


class Small:
    """A little image: config of 300 bytes, one layer of 2 KiB, a tag."""

    def __init__(self, server: Server, layer: bytes, tag: str = "latest", repository: str = REPOSITORY) -> None:
        config = json.dumps({"architecture": "amd64", "os": "linux", "comment": "x" * 240}).encode()
        self.config = descriptor(CONFIG, push_blob(server, config, repository), len(config))
        self.layer = descriptor(LAYER, push_blob(server, layer, repository), len(layer))
        self.tag, self.blob = tag, str(self.layer["digest"])
        self.body = manifest(self.config, [self.layer])
        self.digest = push_manifest(server, self.body, tag, repository)

    @property
    def template(self) -> bytes:
        """A manifest of the same blobs that load.c makes many of."""
        return manifest(self.config, [self.layer], MARK)


class Talk:
    """One connection to a server, its credential sent along."""

    def __init__(self, server: Server) -> None:
        self._connection = HTTPConnection(server.host, timeout=300)
        self._headers = headers_of(server)

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(
        self, method: str, path: str, status: int, body: bytes | Path = b"", headers: dict[str, str] | None = None
    ) -> str:
        """The path of the answer's Location, or "". Raises NotMeasured for another status."""
        content = body.read_bytes() if isinstance(body, Path) else body
        self._connection.request(method, path, body=content, headers={**self._headers, **(headers or {})})
        response = self._connection.getresponse()
        said = response.read()
        if response.status != status:
            raise NotMeasured(f"{method} {path}: {response.status} {said[:300]!r}")
        parts = urllib.parse.urlsplit(response.headers.get("Location", ""))
        return parts.path + (f"?{parts.query}" if parts.query else "")
