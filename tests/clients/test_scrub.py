"""An image that rots on the server's disk: no client is given it, and each client's next push makes it whole."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import ALL, Client, Regctl
from support.environment import clean_environment
from support.layouts import TAG, Layout, make_image
from support.served import Account, serve

LogIn = Callable[[type[Client], Account], Client]
DAMAGED = 7


def scrub(root: Path) -> int:
    command = [sys.executable, "-m", "regserver", "scrub", "--root", str(root)]
    return subprocess.run(command, env=clean_environment(), capture_output=True, check=False).returncode


def push_again(client: Client, image: Layout, name: str) -> None:
    if isinstance(client, Regctl):  # it asks as a reader, who is told what is there; so it has to be told to push
        client.run("image", "copy", "--force-recursive", f"ocidir://{image.path}:{TAG}", name).check()
    else:
        client.push(image, name).check()


@pytest.mark.parametrize("kind", ALL, ids=[kind.name for kind in ALL])
def test_a_rotten_layer_is_refused_and_the_next_push_brings_it_back(
    kind: type[Client], log_in: LogIn, tmp_path: Path
) -> None:
    with serve(tmp_path / "data") as served:
        registry = served.create_registry("my-images")
        client = log_in(kind, registry.robot)
        image = make_image(tmp_path / "image", f"rotten-{kind.name}", layers=2, size=100_000)
        name = registry.image("api", "v1")
        client.push(image, name).check()
        largest = max((served.root / "blobs").rglob("*.*"), key=lambda file: file.stat().st_size)
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
        assert scrub(served.root) == DAMAGED
        path = f"/v2/{registry.name}/api/blobs/sha256:{largest.name.partition('.')[0]}"
        assert served.fetch(registry.robot, path, scope=f"repository:{registry.name}/api:pull").status == 404
        push_again(client, image, name)
        assert scrub(served.root) == 0
        assert served.fetch(registry.robot, path, scope=f"repository:{registry.name}/api:pull").status == 200
