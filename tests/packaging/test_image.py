"""The image: built from the Dockerfile on a base made here, pushed into a running registry, pulled, and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.clients import PROJECT, Buildah, Result, find
from support.served import serve

pytestmark = pytest.mark.clients

BASE = "docker.io/library/debian:bookworm-slim"
EPOCH = "1700000000"
START_SECONDS = 60
CERTIFICATES = "/mnt/ca-certificates.crt"


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    """buildah with a storage of its own, in which the base is."""
    if os.geteuid() != 0:
        reason = "building an image without an engine needs root: run the tests as root"
        pytest.fail(reason, pytrace=False) if os.environ.get("REGSERVER_CI") else pytest.skip(reason)
    find("debootstrap")
    base = PROJECT / ".tools" / "debian-bookworm.tar"
    subprocess.run([sys.executable, PROJECT / "tools" / "debian-base", base], check=True)
    buildah = Buildah(tmp_path_factory.mktemp("buildah"))
    container = buildah.run("from", "scratch").check().stdout.strip()
    buildah.run("add", "--quiet", container, base, "/").check()
    buildah.run("commit", "--quiet", "--rm", container, BASE).check()
    return buildah


def build(buildah: Buildah, name: str) -> Result:
    """As the Dockerfile says at its top. Package indexes, certificates and proxies are those of this environment."""
    command: list[str | Path] = [
        buildah.program, *buildah.globals, "bud", "--isolation", "chroot", "--format", "docker", "--layers=false",
        "--pull-never", "--timestamp", EPOCH, "--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}", "--tag", name,
    ]  # fmt: skip
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        if variable in os.environ:
            command += ["--build-arg", variable]
    if "PIP_CERT" in os.environ:
        command += [
            "--build-arg",
            f"PIP_CERT={CERTIFICATES}",
            "--volume",
            f"{os.environ['PIP_CERT']}:{CERTIFICATES}:ro",
        ]
    temporary = buildah.home / "tmp"  # what the Dockerfile caches is kept there too
    temporary.mkdir(exist_ok=True)
    environment = {**os.environ, **buildah.environment, "TMPDIR": str(temporary)}
    done = subprocess.run([*command, PROJECT], env=environment, capture_output=True, text=True)
    return Result([*map(str, command)], done.returncode, done.stdout, done.stderr)


def inspect(buildah: Buildah, name: str) -> Any:
    return json.loads(buildah.run("inspect", "--type", "image", name).check().stdout)


@pytest.fixture(scope="module")
def image(builder: Buildah) -> str:
    build(builder, "regserver").check()
    return "regserver"


@pytest.fixture(scope="module")
def pulled(builder: Buildah, image: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Buildah, str]:
    """A second buildah, which has the image from a registry alone."""
    with serve(tmp_path_factory.mktemp("served") / "data") as served:
        tenant = served.create_registry("my-images")
        target = tenant.image("regserver", "v1")
        builder.login(tenant.robot).check()
        builder.run("push", "--tls-verify=false", image, f"docker://{target}").check()
        other = Buildah(tmp_path_factory.mktemp("other"))
        other.login(tenant.robot).check()
        other.try_pull(target).check()
    return other, target


@dataclass(frozen=True)
class Running:
    """The image, started as its configuration says."""

    process: subprocess.Popen[str]
    root: Path
    config: Any

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command beside it, as `docker exec` does it: same root, network, user and environment."""
        user, group = self.config["User"].split(":")
        enter = ["nsenter", f"--target={self.process.pid}", "--mount", "--net", "--root", f"--setuid={user}"]
        environment = ["env", "-i", *self.config["Env"]]
        return subprocess.run(
            [*enter, f"--setgid={group}", *environment, *command], capture_output=True, text=True, timeout=60
        )

    def is_healthy(self) -> bool:
        kind, *command = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.run(*command).returncode == 0


@pytest.fixture(scope="module")
def running(pulled: tuple[Buildah, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    buildah, name = pulled
    config = inspect(buildah, name)["Docker"]["config"]
    container = buildah.run("from", "--pull-never", name).check().stdout.strip()
    root = Path(buildah.run("mount", container).check().stdout.strip())
    (folder,) = config["Volumes"]
    volume = tmp_path_factory.mktemp("volume")
    os.chown(volume, *map(int, config["User"].split(":")))
    confined = [sys.executable, Path(__file__).with_name("confined.py"), root, volume, folder, config["User"]]
    log = volume.with_name("volume.log")
    with log.open("w") as output:
        process = subprocess.Popen(
            [*map(str, confined), *config["Entrypoint"], *config["Cmd"]],
            env=dict(line.split("=", 1) for line in config["Env"]),
            stdout=output, stderr=output, text=True,
        )  # fmt: skip
    running = Running(process, root, config)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "listening" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield running
    finally:
        process.kill()
        process.wait()


def test_two_builds_have_the_same_layers(builder: Buildah, image: str) -> None:
    build(builder, "again").check()
    first, second = (inspect(builder, name)["Docker"]["rootfs"]["diff_ids"] for name in (image, "again"))
    assert first == second


def test_what_was_pulled_is_what_was_built(builder: Buildah, image: str, pulled: tuple[Buildah, str]) -> None:
    buildah, name = pulled
    assert inspect(buildah, name)["FromImageID"] == inspect(builder, image)["FromImageID"]


def test_it_serves_as_a_user_without_rights_on_a_root_that_is_read_only(running: Running) -> None:
    assert running.is_healthy()
    status = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
    assert [line.split()[1] for line in status if line.startswith(("Uid:", "Gid:"))] == ["10001", "10001"]
    assert next(line.split()[1] for line in status if line.startswith("CapEff:")).strip("0") == ""
    written = running.run("python", "-c", "open('/opt/regserver/new', 'w')")
    assert "Read-only file system" in written.stderr
    asked = running.run("python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/v2/')")
    assert "HTTP Error 401" in asked.stderr


def test_what_it_keeps_is_in_its_volume_and_for_itself(running: Running) -> None:
    listed = running.run("sh", "-c", "ls /data && stat -c %a /data/admin-token")
    assert {"admin-token", "blobs", "catalog.sqlite3", "keys"} <= set(listed.stdout.split()), listed
    assert "600" in listed.stdout


def test_it_ends_in_order_when_the_engine_says_so(running: Running) -> None:
    running.process.terminate()
    assert running.process.wait(60) == 0
    assert not running.is_healthy()
