"""`dist/regserver`: one file that runs where there is no Python, and does there what the registry does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import regserver
from support.clients import Client, Crane, Skopeo
from support.layouts import make_image
from support.served import Served, serve

MOST_BYTES = 60 * 10**6

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def served(alone: Sequence[str], bare_machine: Path) -> Iterator[Served]:
    """An ordinary server on the bare machine: closed, with an administrator's token."""
    with serve(bare_machine / "data", command=alone) as served:
        yield served


def test_it_is_one_file_that_can_be_handed_on(binary: Path) -> None:
    assert binary.read_bytes()[:4] == b"\x7fELF"
    assert binary.stat().st_size < MOST_BYTES
    assert binary.stat().st_mode & 0o111


def test_it_says_its_version_and_helps(alone: Sequence[str]) -> None:
    for arguments, expected in ((["version"], f"regserver {regserver.__version__}\n"), (["serve", "--help"], "--dev")):
        done = subprocess.run([*alone, *arguments], capture_output=True, text=True)
        assert expected in done.stdout, done.stderr


@pytest.mark.parametrize("kind", [Crane, Skopeo], ids=lambda kind: kind.name)
def test_a_client_pushes_to_it_and_pulls_the_same_bytes(kind: type[Client], served: Served, tmp_path: Path) -> None:
    tenant = served.create_registry(f"my-{kind.name}")
    image = make_image(tmp_path / "image", f"binary-{kind.name}", layers=3)
    client = kind(tmp_path / "home")
    client.login(tenant.robot).check()
    client.push(image, tenant.image("api", "v1")).check()
    pulled = client.pull(tenant.image("api", "v1"))
    assert (pulled.config, pulled.manifest) == (image.config, image.root)
    assert set(served.stored(tenant, "api", "v1")) == image.digests


def test_what_is_read_from_files_at_run_time_is_in_it(served: Served) -> None:
    answers = [served.request("GET", path) for path in ("/v1/openapi.json", "/v1/docs", "/readyz")]
    assert [answer.status for answer in answers] == [200, 200, 200], [answer.body for answer in answers]


def test_it_is_the_client_too(alone: Sequence[str], served: Served) -> None:
    login = ("--server", served.url, "--token", served.admin_token)
    listed = subprocess.run([*alone, "registries", "list", *login], capture_output=True, text=True)
    assert (listed.returncode, listed.stderr) == (0, "")


def test_a_backup_is_compressed_and_restored_by_it(alone: Sequence[str], served: Served, bare_machine: Path) -> None:
    def run(*arguments: str | Path) -> None:
        done = subprocess.run([*alone, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    run("backup", bare_machine / "all.tar.zst", "--root", served.root)
    run("restore", bare_machine / "all.tar.zst", "--root", bare_machine / "restored")
    assert (bare_machine / "restored" / "catalog.sqlite3").exists()
