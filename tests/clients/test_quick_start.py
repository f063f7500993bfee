"""docs/quick-start.md as it stands: its commands, run one after the other by a shell, with the real docker."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.clients import Docker
from support.layouts import make_image
from support.served import serve

PAGE = Path(__file__).parents[2] / "docs" / "quick-start.md"
# What needs another network, a terminal, or is started by the test itself.
_LEFT_OUT = re.compile(r"make |pip |regserver serve |docker pull alpine$|docker login |podman |skopeo ")


def lines_of(title: str) -> list[str]:
    """The commands below one heading."""
    _, _, rest = PAGE.read_text().partition(f"\n## {title}\n")
    section = re.split(r"\n## ", rest)[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if not _LEFT_OUT.match(line)]


@pytest.fixture
def docker(start: Any, tmp_path: Path) -> Docker:
    """An engine that has pulled alpine before."""
    client: Docker = start(Docker)
    client.load(make_image(tmp_path / "alpine", "not really alpine"), "alpine:latest")
    return client


def follow(lines: list[str], host: str, folder: Path, docker: Docker) -> str:
    """What the shell printed; every command succeeds."""
    commands = folder / "bin"
    commands.mkdir()
    (commands / "regserver").write_text(f'#!/bin/sh\nexec {sys.executable} -m regserver "$@"\n')
    (commands / "regserver").chmod(0o755)
    local = host.replace("127.0.0.1", "localhost")
    environment: Mapping[str, str] = {
        **{name: value for name, value in os.environ.items() if not name.startswith("REGSERVER_")},
        "PATH": f"{commands}:{Path(docker.program).parent}:{os.environ['PATH']}",
        "HOME": str(docker.home),
        "DOCKER_CONFIG": str(docker.home),
        "DOCKER_HOST": docker.socket,
        "REGSERVER_SERVER": f"http://{local}",
    }
    script = "\n".join(lines).replace("localhost:5000", local)
    done = subprocess.run(
        ["bash", "-ex"], input=script, env=environment, cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_first_part_pushes_pulls_and_shows_an_image(docker: Docker, tmp_path: Path) -> None:
    lines = [*lines_of("Push and pull"), *lines_of("Look at what is there")]
    assert len(lines) == 6
    with serve(tmp_path / "data", "--dev") as served:
        shown = follow(lines, served.host, tmp_path, docker)
    assert re.search(r"^api +1 ", shown, re.MULTILINE), shown
    assert "linux/amd64" in shown


def test_its_second_part_logs_in_and_pushes_as_a_robot(docker: Docker, tmp_path: Path) -> None:
    lines = lines_of("With a login")
    assert len(lines) == 4
    with serve(tmp_path / "data") as served:
        tag = "docker tag alpine localhost:5000/my-images/api:v1"  # the first part has done that
        follow([tag, *lines], served.host, tmp_path, docker)
        assert served.manage("GET", "/v1/audit?action=tag.push").json["data"][0]["actor"] == "robot$my-images"
