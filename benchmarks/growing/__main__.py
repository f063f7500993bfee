"""How cost grows with what is stored, with connections, with TLS, and through nginx; a curve for each.

    python -m benchmarks.growing                   all of it, about fifteen minutes; writes GROWTH.md and charts
    python -m benchmarks.growing --only tags       one part, printed and not written
    python -m benchmarks.growing --rounds 1 --shrink 100 --size 64     a quick look

Repositories and tags are laid into the catalog as rows: pushing a million would take the better part of an hour.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.clients import Load
from benchmarks.growing import routes, sizes
from benchmarks.growing.report import Found, text, write
from benchmarks.growing.sizes import Point
from benchmarks.machine import describe, load_average
from benchmarks.processes import NotMeasured
from benchmarks.run import say
from benchmarks.servers import Regserver

PARTS = ("repositories", "tags", "connections")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="may be given more than once")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="the median counts (default: 3)")
    parser.add_argument("--seconds", type=int, default=2, metavar="N", help="of each figure (default: 2)")
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="of the large blob (default: 1024)")
    parser.add_argument("--shrink", type=int, default=1, metavar="N", help="divide repositories and tags by it")
    parser.add_argument("--root", type=Path, metavar="DIR", help="where the data is kept")
    return parser.parse_args()


def points(part: str, load: Load, folder: Path, options: argparse.Namespace) -> Iterator[Point]:
    if part == "repositories":
        return sizes.repositories(load, folder, options.seconds, options.shrink)
    if part == "tags":
        return sizes.tags(load, folder, options.seconds, options.shrink)
    return routes.connections(load, folder, options.seconds, options.size)


def run(options: argparse.Namespace, found: Found) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="growth-", dir=options.root) as name:
        load = Load(Path(name))
        for turn in range(options.rounds):
            for part in options.only or PARTS:
                folder = Path(name) / part
                folder.mkdir()
                try:
                    for chart, curve, x, figure in points(part, load, folder, options):
                        found.add(chart, curve, x, figure)
                        say(f"[{time.monotonic() - began:4.0f} s] {turn + 1} {chart} {curve}, {x:,}: {figure:,.2f}")
                except (NotMeasured, OSError) as error:
                    found.missing[part] = " ".join(str(error).split())[:300]
                    say(f"{part}: not measured: {error}")
                shutil.rmtree(folder, ignore_errors=True)
    found.seconds = time.monotonic() - began


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers and folders are cleaned up on that way too
    options = parse()
    if load_average() > (os.cpu_count() or 1):
        say(f"warning: the machine is busy (load {load_average():.1f}); figures will be poor")
    found = Found()
    with contextlib.suppress(KeyboardInterrupt):  # what has been measured so far is reported
        run(options, found)
    print(text(found))
    if not options.only and options.shrink == 1:
        write(found, describe(options.root), f"{Regserver().version()}, {options.rounds} rounds")
        say("written: benchmarks/GROWTH.md and benchmarks/charts/growth-*.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
