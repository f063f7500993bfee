"""``regserver export`` and ``import`` without skopeo: what they say where something is wrong, and what they leave."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from regserver.model.digest import Digest
from support.managing import make_registry
from support.pushing import Registry
from support.shell import Shell, shell_for

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
async def shell(guarded: Registry, tmp_path: Path) -> Shell:
    await make_registry(guarded, "mine")
    return shell_for(guarded.client, tmp_path / "home")


class Layout:
    """A layout that is made by hand, wrongly too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.named: list[dict[str, object]] = []

    def blob(self, content: bytes, media_type: str = "application/octet-stream") -> dict[str, object]:
        digest = Digest.of(content)
        (self.path / "blobs" / "sha256" / digest.hex).write_bytes(content)
        return {"mediaType": media_type, "digest": str(digest), "size": len(content)}

    def image(self, *layers: bytes, name: str | None = None, **more: object) -> dict[str, object]:
        parts = {"config": self.blob(b"{}"), "layers": [self.blob(layer) for layer in layers], **more}
        manifest = {"schemaVersion": 2, "mediaType": IMAGE, **parts}
        found = self.blob(json.dumps(manifest).encode(), IMAGE)
        named = {**found, "annotations": {"org.opencontainers.image.ref.name": name}} if name else found
        self.named.append(named)
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.named}))
        return found

    def file(self, descriptor: dict[str, object]) -> Path:
        return self.path / "blobs" / "sha256" / str(descriptor["digest"]).removeprefix("sha256:")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


# ---- export


async def test_an_image_that_is_not_there_is_not_found(shell: Shell, tmp_path: Path) -> None:
    for image, said in (("mine/none:v1", "no mine/none:v1"), ("other/app:v1", "no registry other")):
        ended = await shell.run("export", image, str(tmp_path / "out.tar"))
        assert ended.code == 3
        assert said in ended.err
        assert not (tmp_path / "out.tar").exists()


async def test_a_folder_that_holds_something_else_is_left_alone(shell: Shell, layout: Layout, tmp_path: Path) -> None:
    layout.image(b"layer", name="v1")
    await shell.succeed("import", str(layout.path), "mine/app")
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "letter").write_text("dear")
    ended = await shell.run("export", "mine/app:v1", str(tmp_path / "documents"))
    assert ended.code == 2
    assert [path.name for path in (tmp_path / "documents").iterdir()] == ["letter"]
    (tmp_path / "there.tar").write_text("precious")
    assert (await shell.run("export", "mine/app:v1", str(tmp_path / "there.tar"))).code == 2
    assert (tmp_path / "there.tar").read_text() == "precious"


async def test_a_layout_takes_more_images_and_moves_names(shell: Shell, layout: Layout, tmp_path: Path) -> None:
    layout.image(b"one", name="v1")
    layout.image(b"two", name="v2")
    await shell.succeed("import", str(layout.path), "mine/app")
    out = tmp_path / "out"
    await shell.succeed("export", "mine/app:v1", str(out))
    await shell.succeed("export", "mine/app:v2", str(out))
    await shell.succeed("import", str(layout.path), "mine/app:v3")  # refused below: two images, none of that name
    assert False
