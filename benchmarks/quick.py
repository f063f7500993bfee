"""How fast one blob goes in and out: push and pull 1 GiB over loopback, median of three, on this machine.

    benchmarks/quick.py                 a registry started for the purpose, its data in a temporary folder
    benchmarks/quick.py --size 100      megabytes (MiB) instead of 1024
    benchmarks/quick.py --root DIR      the data on the disk to be measured

Push is POST, one PATCH, PUT: what the time holds is receiving, hashing, fsync and the commit. Pull reads the blob to
its end and throws it away. The client is this program (http.client), so it takes its share of the processor.
"""

import argparse
import hashlib
import http.client
import os
import platform
import statistics
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.served import Served, serve

PART = 2**20
ROUNDS = 3
REPOSITORY = "bench/blob"


def make_parts(count: int) -> list[bytes]:
    """`count` MiB, no two alike, none seen before by the registry."""
    rest = os.urandom(PART - 16)
    salt = os.urandom(8)
    return [salt + number.to_bytes(8, "big") + rest for number in range(count)]


def connect(served: Served) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(served.host, timeout=600)


def expect(response: http.client.HTTPResponse, status: int) -> http.client.HTTPResponse:
    if response.status != status:
        sys.exit(f"status {response.status} instead of {status}: {response.read()[:500]!r}")
    return response


def push(served: Served, parts: list[bytes]) -> tuple[str, float]:
    """Digest and seconds."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    name = f"sha256:{digest.hexdigest()}"
    connection = connect(served)
    began = time.monotonic()
    connection.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
    response = expect(connection.getresponse(), 202)
    response.read()
    location = response.headers["Location"]
    connection.request("PATCH", location, body=iter(parts), headers={"Content-Length": str(len(parts) * PART)})
    response = expect(connection.getresponse(), 202)
    response.read()
    location = response.headers["Location"]
    separator = "&" if "?" in location else "?"
    connection.request("PUT", f"{location}{separator}{urllib.parse.urlencode({'digest': name})}", body=b"")
    expect(connection.getresponse(), 201).read()
    seconds = time.monotonic() - began
    connection.close()
    return name, seconds


def pull(served: Served, digest: str) -> float:
    """Seconds."""
    connection = connect(served)
    buffer = bytearray(PART)
    began = time.monotonic()
    connection.request("GET", f"/v2/{REPOSITORY}/blobs/{digest}")
    response = expect(connection.getresponse(), 200)
    while response.readinto(buffer):
        pass
    seconds = time.monotonic() - began
    connection.close()
    return seconds


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="of the blob (default: 1024)")
    parser.add_argument("--root", type=Path, metavar="DIR", help="where the registry keeps its data")
    return parser.parse_args()


def main() -> None:
    options = parse()
    pushes, pulls = [], []
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=options.root) as folder,
        serve(Path(folder, "data"), "--dev") as served,
    ):
        for number in range(1, ROUNDS + 1):
            digest, seconds = push(served, make_parts(options.size))
            pushes.append(options.size / seconds)
            pulls.append(options.size / pull(served, digest))
            print(f"round {number}: push {pushes[-1]:.0f} MiB/s, pull {pulls[-1]:.0f} MiB/s", flush=True)
    print(f"\n{options.size} MiB, median of {ROUNDS}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"push {statistics.median(pushes):.0f} MiB/s")
    print(f"pull {statistics.median(pulls):.0f} MiB/s")


if __name__ == "__main__":
    main()
