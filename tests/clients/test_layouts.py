"""`regserver export` and `import`: what skopeo and oras write and read, both ways and bit for bit."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import Client, Oras, Result, Skopeo
from support.layouts import TAG, Layout, make_image, make_index, open_layout
from support.served import Account, Served, Tenant

LogIn = Callable[[type[Client], Account], Client]
Start = Callable[[type[Client]], Client]
Run = Callable[..., Result]


@pytest.fixture
def regserver(served: Served, tmp_path: Path) -> Run:
    """`regserver …` as the administrator of the served registry."""

    def run(*arguments: object) -> Result:
        command = [sys.executable, "-m", "regserver", *map(str, arguments)]
        given = {"HOME": str(tmp_path), "REGSERVER_SERVER": served.url, "REGSERVER_TOKEN": served.admin_token}
        done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, timeout=60)
        return Result(command, done.returncode, done.stdout, done.stderr)

    return run


def make(kind: str, path: Path, seed: str) -> Layout:
    return make_index(path, seed, ["amd64", "arm64", "riscv64"]) if kind == "index" else make_image(path, seed)


@pytest.mark.parametrize("kind", ["image", "index"])
@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_skopeo_reads_what_is_exported(
    log_in: LogIn, registry: Tenant, served: Served, regserver: Run, tmp_path: Path, form: str, kind: str
) -> None:
    made = make(kind, tmp_path / "made", f"export-{form}-{kind}")
    skopeo = log_in(Skopeo, registry.robot)
    assert isinstance(skopeo, Skopeo)
    skopeo.push(made, registry.image("team/app", "v1")).check()
    target = tmp_path / ("out.tar" if form == "oci-archive" else "out")
    regserver("export", f"{registry.name}/team/app:v1", target).check()
    copy = ("copy", "--all", "--preserve-digests", "--authfile", skopeo.authfile, "--dest-tls-verify=false")
    skopeo.run(*copy, f"{form}:{target}:v1", f"docker://{registry.image('copied', 'v1')}").check()
    assert set(served.stored(registry, "copied", "v1")) == made.digests


@pytest.mark.parametrize("kind", ["image", "index"])
@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_what_skopeo_writes_is_imported(
    start: Start, registry: Tenant, served: Served, regserver: Run, tmp_path: Path, form: str, kind: str
) -> None:
    made = make(kind, tmp_path / "made", f"import-{form}-{kind}")
    skopeo = start(Skopeo)
    written = tmp_path / ("written.tar" if form == "oci-archive" else "written")
    skopeo.run("copy", "--all", "--preserve-digests", f"oci:{made.path}:{TAG}", f"{form}:{written}:v7").check()
    done = regserver("import", written, f"{registry.name}/team/app").check()
    assert "team/app:v7" in done.stdout
    assert set(served.stored(registry, "team/app", "v7")) == made.digests
    regserver("import", written, f"{registry.name}/team/app:other").check()
    assert set(served.stored(registry, "team/app", "other")) == made.digests


def test_an_exported_folder_is_the_layout_that_was_pushed(
    log_in: LogIn, registry: Tenant, regserver: Run, tmp_path: Path
) -> None:
    made = make_index(tmp_path / "made", "same bytes")
    log_in(Skopeo, registry.robot).push(made, registry.image("app", "v1")).check()
    regserver("export", f"{registry.name}/app:v1", tmp_path / "out").check()
    exported = open_layout(tmp_path / "out")
    assert (exported.root, exported.digests) == (made.root, made.digests)
    listed = json.loads((tmp_path / "out" / "index.json").read_text())["manifests"]
    assert [one["annotations"] for one in listed] == [{"org.opencontainers.image.ref.name": "v1"}]
    assert json.loads((tmp_path / "out" / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


@pytest.mark.parametrize("name", ["out", "out.tar"])
def test_all_tags_go_there_and_back(
    log_in: LogIn,
    registry: Tenant,
    create: Callable[..., Tenant],
    served: Served,
    regserver: Run,
    tmp_path: Path,
    name: str,
) -> None:
    skopeo, there = log_in(Skopeo, registry.robot), create()
    made = {tag: make_image(tmp_path / tag, tag) for tag in ("v1", "v2", "v3")}
    for tag, image in made.items():
        skopeo.push(image, registry.image("app", tag)).check()
    regserver("export", f"{registry.name}/app", tmp_path / name).check()
    regserver("import", tmp_path / name, f"{there.name}/other/app").check()
    for tag, image in made.items():
        assert set(served.stored(there, "other/app", tag)) == image.digests


def test_referrers_come_along_where_they_are_asked_for(
    log_in: LogIn, registry: Tenant, regserver: Run, tmp_path: Path
) -> None:
    oras = log_in(Oras, registry.robot)
    assert isinstance(oras, Oras)
    made = make_image(tmp_path / "made", "signed")
    oras.push(made, registry.image("app", "v1")).check()
    (tmp_path / "sbom.json").write_text("{}")
    attach = ("attach", "--artifact-type", "application/vnd.test.sbom", "--disable-path-validation")
    oras.registry(*attach, registry.image("app", "v1"), tmp_path / "sbom.json").check()
    regserver("export", f"{registry.name}/app:v1", tmp_path / "bare").check()
    regserver("export", f"{registry.name}/app:v1", tmp_path / "whole.tar", "--referrers").check()
    for source, image, expected in (("bare", "without", 0), ("whole.tar", "with", 1)):
        regserver("import", tmp_path / source, f"{registry.name}/{image}").check()
        found = oras.registry("discover", "--format", "json", registry.image(image, "v1")).check()
        document = json.loads(found.stdout)
        assert len(document.get("referrers") or document.get("manifests") or []) == expected


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_an_image_in_dockers_format_is_read_by_skopeo_too(
    log_in: LogIn, registry: Tenant, served: Served, regserver: Run, tmp_path: Path, form: str
) -> None:
    skopeo = log_in(Skopeo, registry.robot)
    assert isinstance(skopeo, Skopeo)
    made = make_index(tmp_path / "made", f"docker-{form}")
    source, pushed = f"oci:{made.path}:{TAG}", registry.image("app", "v1")
    to_server = ("--authfile", skopeo.authfile, "--dest-tls-verify=false")
    skopeo.run("copy", "--all", "--format", "v2s2", *to_server, source, f"docker://{pushed}").check()
    before = served.stored(registry, "app", "v1")
    target = tmp_path / ("out.tar" if form == "oci-archive" else "out")
    told = regserver("export", f"{registry.name}/app:v1", target).check()
    assert "3 manifests in Docker's format became OCI's" in told.stderr
    copied = registry.image("copied", "v1")
    skopeo.run("copy", "--all", "--preserve-digests", *to_server, f"{form}:{target}:v1", f"docker://{copied}").check()
    after = served.stored(registry, "copied", "v1")
    assert all("vnd.docker" not in content.decode() for content in after.values() if content.startswith(b"{"))
    blobs = [{name for name, content in some.items() if b"schemaVersion" not in content} for some in (before, after)]
    assert blobs[0] == blobs[1], "config and layers are the same"


def test_dockers_format_is_kept_where_that_is_asked_for(
    log_in: LogIn, registry: Tenant, served: Served, regserver: Run, tmp_path: Path
) -> None:
    skopeo = log_in(Skopeo, registry.robot)
    assert isinstance(skopeo, Skopeo)
    made = make_image(tmp_path / "made", "docker as it is")
    target = f"docker://{registry.image('app', 'v1')}"
    options = ("--format", "v2s2", "--authfile", skopeo.authfile, "--dest-tls-verify=false")
    skopeo.run("copy", *options, f"oci:{made.path}:{TAG}", target).check()
    regserver("export", "--as-is", f"{registry.name}/app:v1", tmp_path / "out").check()
    regserver("import", tmp_path / "out", f"{registry.name}/copied").check()
    assert served.stored(registry, "copied", "v1") == served.stored(registry, "app", "v1")
