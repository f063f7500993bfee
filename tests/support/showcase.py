"""What the console is shown with: images as a team would have them, and one made by somebody who means harm."""

import gzip
import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import zstandard

from support.clients import Crane, Oras
from support.layouts import CONFIG, IMAGE, INDEX, LAYER, TAG, Layout, digest_of
from support.served import Tenant

CREATED = "2026-11-20T10:00:00Z"
SCRIPT = "<script>document.title='owned'</script>"
HANDLER = '"><img src=x onerror="document.title=\'owned\'">'
BIDI = "gpj\u202etxt.exe"
PRESS = {"": lambda tar: tar, "+gzip": lambda tar: gzip.compress(tar, mtime=0), "+zstd": zstandard.compress}


@dataclass(frozen=True)
class Part:
    """A layer and the instruction that made it; without files it made none."""

    command: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    press: str = "+gzip"


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A layer with the folders that its files need. A name that ends in ``@`` is a link to its content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        made: set[str] = set()
        for name, content in sorted(files.items()):
            for folder in reversed(Path(name).parents[:-1] if not name.startswith("/") else []):
                if str(folder) not in made:
                    made.add(str(folder))
                    entry = tarfile.TarInfo(f"{folder}/")
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(entry)
            entry = tarfile.TarInfo(name.removesuffix("@"))
            if name.endswith("@"):
                entry.type, entry.linkname = tarfile.SYMTYPE, content.decode()
                archive.addfile(entry)
                continue
            entry.size, entry.mode = len(content), 0o755 if "/bin/" in name else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Painter:
    """Writes layouts of one image or index each into folders of ``home``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._count = 0

    def image(
        self, parts: Sequence[Part], *, config: Mapping[str, Any] | None = None, notes: Mapping[str, str] | None = None
    ) -> Layout:
        layout = self._layout()
        return self._finish(layout, self._image(layout, parts, "amd64", config or {}, notes or {}))

    def index(self, parts: Sequence[Part], architectures: Sequence[str], config: Mapping[str, Any]) -> Layout:
        layout = self._layout()
        images = [
            self._image(
                layout, [*parts, Part(f"COPY app-{one} /app", {f"app/bin/{one}": noise(one, 9000)})], one, config
            )
            for one in architectures
        ]
        return self._finish(layout, self._document(layout, INDEX, {"manifests": images}))

    def _layout(self) -> Path:
        self._count += 1
        path = self.home / f"layout-{self._count}"
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        return path

    def _image(
        self,
        layout: Path,
        parts: Sequence[Part],
        architecture: str,
        config: Mapping[str, Any],
        notes: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        tars = [(part, tar_of(part.files)) for part in parts if part.files]
        history = [
            {
                "created": CREATED,
                "created_by": part.command,
                **({} if part.files else {"empty_layer": True}),
            }
            for part in parts
        ]
        platform = {"os": "linux", "architecture": architecture}
        document = {
            **platform,
            "created": CREATED,
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for _, tar in tars]},
            "history": history,
        }
        layers = [self._blob(layout, LAYER + part.press, PRESS[part.press](tar)) for part, tar in tars]
        described: dict[str, Any] = {
            "config": self._blob(layout, CONFIG, json.dumps(document).encode()),
            "layers": layers,
        }
        return {
            **self._document(layout, IMAGE, described | ({"annotations": notes} if notes else {})),
            "platform": platform,
        }

    def _document(self, layout: Path, media_type: str, document: Mapping[str, Any]) -> dict[str, Any]:
        content = {"schemaVersion": 2, "mediaType": media_type, **document}
        return self._blob(layout, media_type, json.dumps(content).encode())

    def _blob(self, layout: Path, media_type: str, content: bytes) -> dict[str, Any]:
        digest = digest_of(content)
        (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def _finish(self, layout: Path, root: Mapping[str, Any]) -> Layout:
        named = {**root, "annotations": {"org.opencontainers.image.ref.name": TAG}}
        named.pop("platform", None)
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
        return Layout(layout, str(root["digest"]))


def noise(seed: str, size: int) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


BASE = Part(
    "/bin/sh -c #(nop) ADD file:4b03b5f551e3fbdf47ec609712007327828f7530cc3455c43bbcdcaf449a75a9 in / ",
    {
        "bin/busybox": noise("busybox", 824_000),
        "bin/sh@": b"busybox",
        "etc/os-release": b'NAME="Alpine Linux"\nVERSION_ID=3.22\n',
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
        "lib/libc.so": noise("libc", 610_000),
        "usr/share/zoneinfo/Europe/Berlin": noise("berlin", 2_300),
        "usr/share/zoneinfo/UTC": noise("utc", 114),
    },
)
SETTINGS = {
    "User": "app",
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "PYTHONUNBUFFERED=1"],
    "Entrypoint": ["/app/bin/serve"],
    "Cmd": ["--port", "8080"],
    "WorkingDir": "/app",
    "ExposedPorts": {"8080/tcp": {}},
    "Labels": {"org.opencontainers.image.source": "https://git.example.com/team/api"},
}


def version(number: str, size: int, **files: bytes) -> list[Part]:
    """The parts of a release: a base that all share, dependencies, and the program."""
    return [
        BASE,
        Part('/bin/sh -c #(nop)  CMD ["/bin/sh"]'),
        Part(
            "RUN /bin/sh -c apk add --no-cache python3 ca-certificates # buildkit",
            {"usr/bin/python3": noise("python", 1_450_000), "etc/ssl/certs/ca.pem": noise("ca", 212_000)},
            "+zstd",
        ),
        Part("ENV PYTHONUNBUFFERED=1"),
        Part(
            "COPY dist/ /app/ # buildkit",
            {
                "app/bin/serve": noise(f"serve {number}", size),
                "app/version.txt": f"{number}\n".encode(),
                **{f"app/{name}": content for name, content in files.items()},
            },
        ),
        Part('ENTRYPOINT ["/app/bin/serve"]'),
    ]


HARM = [
    Part(
        f"RUN echo {SCRIPT}",
        {
            f"etc/{SCRIPT}.txt": b"1",
            f"etc/{HANDLER}.txt": b"2",
            f"etc/{BIDI}": b"3",
            "../../outside": b"4",
            "/absolute": b"5",
            "etc/new\nline\x1b[31m": b"6",
        },
        "",
    ),
    Part(f"ENV A={HANDLER}"),
]
HARMFUL_SETTINGS = {"Env": [f"A={SCRIPT}", f"B={HANDLER}", f"C={BIDI}"], "Labels": {SCRIPT: HANDLER}, "User": 7}
HARMFUL_NOTES = {SCRIPT: SCRIPT, HANDLER: HANDLER, "bidi": BIDI}


@dataclass(frozen=True)
class Gallery:
    """A registry with what the pages are shown with: `team/api` in several versions, and `evil`."""

    tenant: Tenant

    @classmethod
    def hang(cls, tenant: Tenant, crane: Crane, oras: Oras, painter: Painter) -> "Gallery":
        notes = {"org.opencontainers.image.title": "api", "org.opencontainers.image.version": "1.1.0"}
        config = {**SETTINGS, "User": "nobody"}
        later = painter.image(version("1.1.0", 510_000, changed=b"new"), config=config, notes=notes)
        several = painter.index(version("1.2.0", 300_000), ["amd64", "arm64"], SETTINGS)
        first = painter.image(version("1.0.0", 420_000), config=SETTINGS)
        for layout, image, tag in (
            (painter.image([BASE]), "alpine", "3.22"),
            (painter.image(version("7", 900_000)), "team/worker", "v7"),
            (painter.image(version("6", 800_000)), "old-worker", "v6"),
            (painter.image(HARM, config=HARMFUL_SETTINGS, notes=HARMFUL_NOTES), "evil", "v1"),
            (first, "team/api", "v1.0.0"),
            (first, "team/api", "v1.1.0"),
            (later, "team/api", "v1.1.0"),
            (several, "team/api", "v1.2.0"),
        ):
            crane.push(layout, tenant.image(image, tag)).check()
        gallery = cls(tenant)
        gallery._describe(oras)
        return gallery

    def _describe(self, oras: Oras) -> None:
        """An SBOM, a signature of it, and a signature of the image."""
        (oras.home / "sbom.spdx.json").write_text('{"spdxVersion": "SPDX-2.3"}')
        image, sign = self.tenant.image("team/api", "v1.1.0"), "application/vnd.dev.cosign.artifact.sig.v1+json"
        kind = ("--artifact-type", "application/spdx+json")
        sbom = oras.registry("attach", "--format", "json", *kind, image, "sbom.spdx.json").check()
        digest = json.loads(sbom.stdout)["digest"]
        for target in (image, self.tenant.image("team/api", digest)):
            oras.registry("attach", "--artifact-type", sign, target, "sbom.spdx.json").check()

    def page(self, path: str = "", **query: str) -> str:
        """The address of a page of the registry."""
        asked = f"?{urlencode(query)}" if query else ""
        return f"/console/registries/{self.tenant.id}{'/' + path if path else ''}{asked}"
