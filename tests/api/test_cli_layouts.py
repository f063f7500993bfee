"""``regserver export`` and ``import`` without skopeo: what they say where something is wrong, and what they leave."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from regserver.model.digest import Digest
from regserver.web.context import SERVICES
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
    await shell.succeed("import", str(layout.path), "mine/app")
    layout.image(b"three", name="v1")
    layout.named.pop(0)
    layout.image(b"four", name="v4")
    await shell.succeed("import", str(layout.path), "mine/app")
    await shell.succeed("export", "mine/app:v1", str(out))
    listed = json.loads((out / "index.json").read_text())["manifests"]
    names = {one["annotations"]["org.opencontainers.image.ref.name"]: one["digest"] for one in listed}
    assert names == {"v1": layout.named[1]["digest"], "v2": layout.named[0]["digest"]}
    await shell.succeed("import", str(out), "mine/copy")


async def test_a_damaged_blob_of_a_layout_is_written_anew(shell: Shell, layout: Layout, tmp_path: Path) -> None:
    layout.image(b"layer", name="v1")
    await shell.succeed("import", str(layout.path), "mine/app")
    await shell.succeed("export", "mine/app:v1", str(tmp_path / "out"))
    spoiled = tmp_path / "out" / "blobs" / "sha256" / Digest.of(b"layer").hex
    spoiled.write_bytes(b"other")
    await shell.succeed("export", "mine/app:v1", str(tmp_path / "out"))
    assert spoiled.read_bytes() == b"layer"


@pytest.mark.parametrize("name", ["out", "out.tar"])
async def test_bytes_that_the_server_damages_are_found(
    guarded: Registry, shell: Shell, layout: Layout, tmp_path: Path, name: str
) -> None:
    layout.image(b"a layer that the disk will lose", name="v1")
    await shell.succeed("import", str(layout.path), "mine/app")
    (file,) = guarded.client.app[SERVICES].settings.root.rglob(f"{Digest.of(b'a layer that the disk will lose').hex}.*")
    file.write_bytes(b"a layer that the disk has lost!")
    ended = await shell.run("export", "mine/app:v1", str(tmp_path / name))
    assert ended.code == 1
    assert "other bytes" in ended.err
    assert not (tmp_path / "out.tar").exists()
    assert not (tmp_path / "out.tar.partial").exists()
    assert not (tmp_path / "out" / "index.json").exists()
    assert not (tmp_path / "out" / "blobs" / "sha256" / Digest.of(b"a layer that the disk will lose").hex).exists()


async def test_json_says_what_was_done(shell: Shell, layout: Layout, tmp_path: Path) -> None:
    image = layout.image(b"layer", name="v1")
    pushed = (await shell.succeed("import", str(layout.path), "mine/app", "--json")).json
    assert pushed == {"tags": ["v1"], "manifests": [image["digest"]], "blobs": 2, "bytes": 7}
    again = (await shell.succeed("import", str(layout.path), "mine/app", "--json")).json
    assert (again["blobs"], again["bytes"]) == (0, 0), "what is there is not sent again"
    written = (await shell.succeed("export", "mine/app", str(tmp_path / "out"), "--json")).json
    assert (written["blobs"], written["bytes"]) == (2, 7)
    assert [one["digest"] for one in written["manifests"]] == [image["digest"]]


# ---- import


async def test_what_is_no_layout_is_refused(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.tar").write_bytes(b"no tar")
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("index.json"), io.BytesIO())
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "index.json").write_text('{"manifests": 7}')
    for name in ("empty", "file.tar", "other.tar", "list"):
        ended = await shell.run("import", str(tmp_path / name), "mine/app:v1")
        assert (ended.code, ended.out) == (2, ""), name
        assert "Traceback" not in ended.err
    assert (await shell.run("import", str(tmp_path / "nothing"), "mine/app:v1")).code == 3


async def test_a_layout_that_lacks_a_blob_pushes_nothing(shell: Shell, layout: Layout) -> None:
    image = layout.image(b"layer", name="v1")
    layout.file(layout.blob(b"layer")).unlink()
    ended = await shell.run("import", str(layout.path), "mine/app")
    assert (ended.code, "lacks sha256:" in ended.err) == (3, True)
    layout.file(image).unlink()
    assert (await shell.run("import", str(layout.path), "mine/app")).code == 3
    assert (await shell.run("tags", "list", "mine/app")).code == 3


async def test_a_layout_whose_bytes_are_others_is_refused_by_the_registry(shell: Shell, layout: Layout) -> None:
    layout.image(b"layer", name="v1")
    layout.file(layout.blob(b"layer")).write_bytes(b"lover")
    ended = await shell.run("import", str(layout.path), "mine/app")
    assert ended.code == 2
    assert "digest" in ended.err


async def test_a_tag_is_needed_where_the_layout_names_none(shell: Shell, layout: Layout) -> None:
    layout.image(b"layer")
    ended = await shell.run("import", str(layout.path), "mine/app")
    assert (ended.code, "say the tag" in ended.err) == (2, True)
    await shell.succeed("import", str(layout.path), "mine/app:v1")


async def test_of_several_images_one_is_chosen_by_its_name(shell: Shell, layout: Layout) -> None:
    first, _ = layout.image(b"one", name="docker.io/library/app:v1"), layout.image(b"two", name="v2")
    ended = await shell.run("import", str(layout.path), "mine/app:v3")
    assert (ended.code, "its names: v1, v2" in ended.err) == (3, True)
    await shell.succeed("import", str(layout.path), "mine/app:v1")
    assert (await shell.succeed("tags", "show", "mine/app:v1", "--json")).json["digest"] == first["digest"]
    assert (await shell.run("tags", "show", "mine/app:v2")).code == 3


async def test_an_index_that_lists_itself_ends(shell: Shell, layout: Layout) -> None:
    image = layout.image(b"layer", name="v1")
    loop = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**image, "mediaType": INDEX}]}
    layout.file(image).write_text(json.dumps(loop))
    ended = await shell.run("import", str(layout.path), "mine/app")
    assert (ended.code, "content unknown" in ended.err) == (3, True)


async def test_referrers_of_referrers_come_along(shell: Shell, layout: Layout, tmp_path: Path) -> None:
    image = layout.image(b"layer", name="v1")
    signature = layout.image(b"signature", subject=image, artifactType="application/vnd.test.signature")
    layout.image(b"countersigned", subject=signature, artifactType="application/vnd.test.signature")
    layout.image(b"of nothing here", subject={**image, "digest": str(Digest.of(b"other"))})
    pushed = (await shell.succeed("import", str(layout.path), "mine/app", "--json")).json
    assert len(pushed["manifests"]) == 3
    written = (await shell.succeed("export", "mine/app:v1", str(tmp_path / "out"), "--referrers", "--json")).json
    assert len(written["manifests"]) == 1
    assert len(json.loads((tmp_path / "out" / "index.json").read_text())["manifests"]) == 3


async def test_without_a_token_it_says_what_is_needed(shell: Shell, layout: Layout, tmp_path: Path) -> None:
    layout.image(b"layer", name="v1")
    for words in (("import", str(layout.path), "mine/app"), ("export", "mine/app:v1", str(tmp_path / "out"))):
        ended = await shell.seen_with(token=None).run(*words)
        assert (ended.code, "regserver login" in ended.err) == (4, True)
        assert (await shell.seen_with(token="rsv_wrong_token_of_nobody").run(*words)).code == 4


async def test_where_no_server_is_it_says_so(shell: Shell, layout: Layout) -> None:
    layout.image(b"layer", name="v1")
    ended = await shell.seen_with(server="http://127.0.0.1:1", token=None).run("import", str(layout.path), "mine/app")
    assert (ended.code, "cannot reach" in ended.err) == (6, True)
