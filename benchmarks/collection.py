"""How fast garbage goes, and what clients notice of it: 20,000 blobs and 2,000 images, half of them garbage.

    benchmarks/collection.py                          both registries in one run, three rounds; writes COLLECTION.md
    benchmarks/collection.py --images 200 --rounds 1  a quick look
    benchmarks/collection.py --peer /usr/bin/docker-registry

regserver collects online, asked over its API, while clients go on pulling and pushing; before it the same clients are
measured alone. The peer is CNCF distribution (Debian's docker-registry, or a `registry` of version 3): its
`garbage-collect --delete-untagged` over the same images in its own layout on the same disk, offline as its
documentation demands. The time of both is from the order to the last byte given back.
"""

import argparse
import asyncio
import hashlib
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.served import Served, serve

HERE = Path(__file__).resolve().parent
IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCTETS = {"Content-Type": "application/octet-stream"}
REPOSITORY = "bench/api"
BLOBS = 10  # of each image, its config among them
SIZE = 4096
AT_ONCE = 16
PULLERS, PUSHERS = 4, 2
ALONE_SECONDS = 5.0


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Image:
    tag: str
    manifest: bytes
    blobs: list[bytes]


def make_images(count: int, seed: int) -> Iterator[Image]:
    """The same for both registries; no blob in two images."""
    ways = random.Random(seed)
    for number in range(count):
        blobs = [ways.randbytes(SIZE) for _ in range(BLOBS)]
        parts = [{"mediaType": "application/octet-stream", "digest": digest_of(blob), "size": SIZE} for blob in blobs]
        document = {"schemaVersion": 2, "mediaType": IMAGE, "config": parts[0], "layers": parts[1:]}
        yield Image(f"v{number}", json.dumps(document).encode(), blobs)


@dataclass(frozen=True)
class Outcome:
    """Seconds of collecting; of the clients, milliseconds at the 99th percentile alone and meanwhile."""

    ours: float
    peer: float | None
    alone: tuple[float, float]
    meanwhile: tuple[float, float]


class Clients:
    """They pull manifests and blobs that stay, and push blobs of their own; each time is kept."""

    def __init__(self, session: aiohttp.ClientSession, kept: list[Image]) -> None:
        self._session, self._kept = session, kept
        self.pulls: list[float] = []
        self.pushes: list[float] = []

    async def work(self, done: asyncio.Event) -> None:
        await asyncio.gather(
            *(self._pull(done, random.Random(number)) for number in range(PULLERS)),
            *(self._push(done) for _ in range(PUSHERS)),
        )

    def p99(self) -> tuple[float, float]:
        """(pull, push) in milliseconds; forgets the times."""
        found = tuple(sorted(times)[int(len(times) * 0.99)] * 1000 for times in (self.pulls, self.pushes))
        self.pulls, self.pushes = [], []
        return found[0], found[1]

    async def _pull(self, done: asyncio.Event, ways: random.Random) -> None:
        while not done.is_set():
            image = ways.choice(self._kept)
            path = ways.choice([f"manifests/{image.tag}", f"blobs/{digest_of(ways.choice(image.blobs))}"])
            began = time.monotonic()
            async with self._session.get(f"/v2/{REPOSITORY}/{path}") as answer:
                await answer.read()
                expect(answer, 200)
            self.pulls.append(time.monotonic() - began)

    async def _push(self, done: asyncio.Event) -> None:
        while not done.is_set():
            content = os.urandom(SIZE)
            began = time.monotonic()
            await push_blob(self._session, content)
            self.pushes.append(time.monotonic() - began)


def expect(answer: aiohttp.ClientResponse, status: int) -> None:
    if answer.status != status:
        sys.exit(f"{answer.method} {answer.url}: status {answer.status} instead of {status}")


async def push_blob(session: aiohttp.ClientSession, content: bytes) -> None:
    url = f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest_of(content)}"
    async with session.post(url, data=content, headers=OCTETS) as answer:
        expect(answer, 201)


async def fill(session: aiohttp.ClientSession, images: list[Image]) -> None:
    waiting = iter(images)

    async def push() -> None:
        for image in waiting:
            for blob in image.blobs:
                await push_blob(session, blob)
            url = f"/v2/{REPOSITORY}/manifests/{image.tag}"
            async with session.put(url, data=image.manifest, headers={"Content-Type": IMAGE}) as answer:
                expect(answer, 201)

    await asyncio.gather(*(push() for _ in range(AT_ONCE)))


async def untag(session: aiohttp.ClientSession, images: list[Image]) -> None:
    for image in images:
        async with session.delete(f"/v2/{REPOSITORY}/manifests/{image.tag}") as answer:
            expect(answer, 202)


async def collect(session: aiohttp.ClientSession, expected: int) -> float:
    """Seconds until the job is completed and its files are off the disk."""
    async with session.get("/v1/registries") as answer:
        registry = (await answer.json())["data"][0]["id"]
    began = time.monotonic()
    async with session.post(f"/v1/registries/{registry}/gc") as answer:
        job = (await answer.json())["data"]["job_id"]
    while True:
        async with session.get(f"/v1/registries/{registry}/gc/{job}") as answer:
            found = (await answer.json())["data"]
        if found["status"] != "running":
            break
        await asyncio.sleep(0.02)
    seconds = time.monotonic() - began
    if (found["status"], found["bytes_freed"]) != ("completed", expected):
        sys.exit(f"the collection freed {found['bytes_freed']} bytes instead of {expected}: {found}")
    return seconds


async def measure(served: Served, images: list[Image]) -> tuple[float, tuple[float, float], tuple[float, float]]:
    lost, kept = images[::2], images[1::2]
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(served.url, timeout=timeout) as session:
        say(f"filling regserver with {len(images) * BLOBS} blobs")
        await fill(session, images)
        await untag(session, lost)
        clients, done = Clients(session, kept), asyncio.Event()
        working = asyncio.create_task(clients.work(done))
        say("clients alone")
        await asyncio.sleep(ALONE_SECONDS)
        alone = clients.p99()
        say("collecting while they go on")
        seconds = await collect(session, len(lost) * BLOBS * SIZE)
        meanwhile = clients.p99()
        done.set()
        await working
        return seconds, alone, meanwhile


def lay(root: Path, images: list[Image]) -> None:
    """The same images as the peer lays them on the disk; every second has lost its tag."""
    top = root / "docker/registry/v2"
    own = top / "repositories" / REPOSITORY

    def write(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def link(folder: Path, digest: str) -> None:
        write(folder / "sha256" / digest.partition(":")[2] / "link", digest.encode())

    for number, image in enumerate(images):
        for blob in (*image.blobs, image.manifest):
            name = digest_of(blob).partition(":")[2]
            write(top / "blobs/sha256" / name[:2] / name / "data", blob)
        for blob in image.blobs:
            link(own / "_layers", digest_of(blob))
        digest = digest_of(image.manifest)
        link(own / "_manifests/revisions", digest)
        if number % 2:
            write(own / "_manifests/tags" / image.tag / "current/link", digest.encode())
            link(own / "_manifests/tags" / image.tag / "index", digest)


def collect_offline(peer: str, folder: Path, images: list[Image]) -> float:
    """Seconds of the peer's own command; what it leaves is counted."""
    root, settings = folder / "peer", folder / "peer.yml"
    lay(root, images)
    os.sync()
    settings.write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {root}\nhttp:\n  addr: 127.0.0.1:0\n"
    )
    began = time.monotonic()
    command = [peer, "garbage-collect", "--delete-untagged", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    left = len(list((root / "docker/registry/v2/blobs/sha256").glob("*/*/data")))
    expected = len(images) // 2 * (BLOBS + 1)
    if done.returncode != 0 or left != expected:
        sys.exit(f"{peer} left {left} blobs instead of {expected}: {done.stderr[-2000:]}")
    shutil.rmtree(root)
    return seconds


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def once(options: argparse.Namespace, number: int) -> Outcome:
    images = list(make_images(options.images, number))
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.root) as name:
        folder = Path(name)
        with serve(folder / "data", "--dev") as served:
            ours, alone, meanwhile = asyncio.run(measure(served, images))
        peer = None
        if options.peer:
            say(f"collecting with {options.peer}")
            peer = collect_offline(options.peer, folder, images)
    found = Outcome(ours, peer, alone, meanwhile)
    print(f"round {number}: {found}", flush=True)
    return found


def report(options: argparse.Namespace, found: list[Outcome]) -> str:
    def median(values: list[float], unit: str) -> str:
        return f"{statistics.median(values):.2f} {unit} ({min(values):.2f}–{max(values):.2f})"

    ours = [one.ours for one in found]
    peers = [one.peer for one in found if one.peer is not None]
    count, lost = options.images * (BLOBS + 1), options.images // 2 * (BLOBS + 1)
    lines = [
        "# Collection, measured",
        "",
        f"{count:,} contents ({options.images:,} images of {BLOBS} blobs), {lost:,} of them garbage; the median of "
        f"{len(found)} rounds and their range. {os.cpu_count()} cores, Python {platform.python_version()}.",
        "",
        "| what | |",
        "|---|---|",
        f"| regserver, online, with {PULLERS} pullers and {PUSHERS} pushers at work | {median(ours, 's')} |",
    ]
    if peers:
        ratio = statistics.median(peers) / statistics.median(ours)
        lines += [
            f"| distribution (`{version(options.peer)}`), offline | {median(peers, 's')} |",
            f"| ratio | {ratio:.1f} |",
        ]
    for name, place in (("pull", 0), ("push", 1)):
        alone = [one.alone[place] for one in found]
        meanwhile = [one.meanwhile[place] for one in found]
        lines.append(f"| p99 of a {name} without a collection | {median(alone, 'ms')} |")
        lines.append(f"| p99 of a {name} during it | {median(meanwhile, 'ms')} |")
    return "\n".join([*lines, "", "Made by `benchmarks/collection.py`.", ""])


def version(peer: str) -> str:
    shown = subprocess.run([peer, "--version"], capture_output=True, text=True, check=False)
    return " ".join(shown.stdout.split()) or Path(peer).name


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, metavar="N", help="half of them lose their tag")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="the median of these (default: 3)")
    parser.add_argument("--root", type=Path, metavar="DIR", help="where both keep their data")
    parser.add_argument(
        "--peer", default=shutil.which("docker-registry"), metavar="FILE", help="distribution's program"
    )
    return parser.parse_args()


def main() -> None:
    options = parse()
    if not options.peer:
        say("no docker-registry here (Debian's package of that name): regserver is measured alone")
    found = [once(options, number) for number in range(1, options.rounds + 1)]
    text = report(options, found)
    print(text)
    if options.images == 2000 and options.peer:
        HERE.joinpath("COLLECTION.md").write_text(text)


if __name__ == "__main__":
    main()
