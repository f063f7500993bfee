"""An image of 20 layers, 1 GiB, as people pull it: `skopeo copy` into a folder, `docker pull` into an empty engine."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.clients import MIB
from benchmarks.contents import CONFIG, LAYER, descriptor, digest_of, manifest, push_blob, push_manifest
from benchmarks.figures import LIMITS, Goal, Sample, Workload
from benchmarks.processes import NotMeasured, start
from benchmarks.scenarios.base import Bench, Found, Scenario
from benchmarks.servers import REPOSITORY, Peer, Server

LAYERS = 20
TAG = "large"
CLIENT_SECONDS = 300.0
ENGINE_SECONDS = 30.0
GZIP = 31  # zlib's wbits for it


@dataclasses.dataclass(frozen=True)
class Image:
    """Layers are files; ``config`` names what they unpack to."""

    layers: Sequence[Path]
    config: bytes


def make_image(folder: Path, mib: int) -> Image:
    """Random bytes, which nobody can compress."""
    folder.mkdir()
    layers, unpacked = [], []
    for number in range(LAYERS):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo(f"data/{number}")
            entry.size = max(1, mib * MIB // LAYERS)
            archive.addfile(entry, io.BytesIO(os.urandom(entry.size)))
        content = packed.getvalue()
        unpacked.append(digest_of(content))
        packer = zlib.compressobj(0, zlib.DEFLATED, GZIP)
        path = folder / str(number)
        path.write_bytes(packer.compress(content) + packer.flush())
        layers.append(path)
    history = [{"created_by": "bench"}] * LAYERS
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": unpacked}}
    return Image(layers, json.dumps({**config, "config": {}, "history": history}).encode())


def push_image(server: Server, image: Image) -> None:
    layers = []
    for path in image.layers:
        content = path.read_bytes()
        layers.append(descriptor(LAYER, push_blob(server, content), len(content)))
    config = descriptor(CONFIG, push_blob(server, image.config), len(image.config))
    push_manifest(server, manifest(config, layers), TAG)


class Images(Scenario):
    name = "image"
    without = LIMITS | {"zot", "2.8.2"}
    workloads = (
        Workload("skopeo", "skopeo copy of 20 layers, 1 GiB", "s", less=True),
        Workload("docker", "docker pull of 20 layers, 1 GiB", "s", less=True),
    )
    goals = (
        Goal("skopeo", 1.0, "fastest", at_most=True),
        Goal("docker", 1.0, "fastest", at_most=True),
    )

    def run(self, bench: Bench, server: Server, peer: Peer) -> Found:
        made = bench.folder / "image"
        if not made.exists():
            self._image = make_image(made, bench.mib)
        push_image(server, self._image)
        home = server.folder / "home"
        home.mkdir()
        login = {"auth": server.basic.removeprefix("Basic ") or base64.b64encode(b"nobody:nothing").decode()}
        (home / "config.json").write_text(json.dumps({"auths": {server.host: login} if server.basic else {}}))
        for name, client in (("skopeo", self._skopeo), ("docker", self._docker)):
            if bench.wanted(name):
                os.sync()
                yield name, Sample(client(server, home))

    def _skopeo(self, server: Server, home: Path) -> float:
        copy = home / "copy"
        words = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", "--authfile", str(home / "config.json")]
        seconds = timed([*words, f"docker://{server.host}/{REPOSITORY}:{TAG}", f"dir:{copy}"])
        shutil.rmtree(copy)
        return seconds

    def _docker(self, server: Server, home: Path) -> float:
        with engine(home) as address:
            words = ["docker", "--config", str(home), "--host", address, "pull", "--quiet"]
            return timed([*words, f"{server.host}/{REPOSITORY}:{TAG}"])


def timed(command: Sequence[str]) -> float:
    """Seconds; raises NotMeasured when it fails."""
    if shutil.which(command[0]) is None:
        raise NotMeasured(f"{command[0]} is not installed: tools/setup-clients --peers")
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=CLIENT_SECONDS)
    seconds = time.monotonic() - began
    if done.returncode:
        raise NotMeasured(f"{' '.join(command[:2])}: {done.stderr.strip()[-300:]}")
    return seconds


@contextlib.contextmanager
def engine(home: Path) -> Iterator[str]:
    """An empty Docker engine without network; its socket's address."""
    program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or os.geteuid() != 0:
        raise NotMeasured("a Docker engine needs dockerd and root")
    address = f"unix://{home}/docker.sock"
    command = [program, "--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "--host", address]
    command += ["--pidfile", f"{home}/pid", "--bridge=none", "--iptables=false", "--ip6tables=false"]
    command += ["--insecure-registry", "127.0.0.0/8"]
    running = start(command, home / "engine.log", {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"})
    try:
        deadline = time.monotonic() + ENGINE_SECONDS
        while subprocess.run(["docker", "--host", address, "info"], capture_output=True, check=False).returncode:
            if running.process.poll() is not None or time.monotonic() > deadline:
                raise NotMeasured(f"dockerd did not start: {running.said()[-300:]}")
            time.sleep(0.1)
        yield address
    finally:
        running.stop()
