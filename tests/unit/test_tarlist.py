"""Layers are whatever somebody pushed: their listing is right for the sound ones, and bounded for all."""

import gzip
import io
import itertools
import tarfile
import tracemalloc

import pytest
import zstandard

from regserver.content.tarlist import BLOCK, Ending, Limits, Listing, read
from support.showcase import noise, tar_of

FILES = {"bin/sh@": b"busybox", "bin/busybox": b"x" * 5000, "etc/empty": b"", "etc/passwd": b"root\n"}


def listed(content: bytes, **limits: float) -> Listing:
    return read(io.BytesIO(content), Limits(**limits))  # type: ignore[arg-type]


def member(name: bytes, size: bytes = b"0" * 11, kind: bytes = b"0", content: bytes = b"") -> bytes:
    """A raw entry with a right checksum, whatever it claims."""
    header = bytearray(BLOCK)
    header[:100] = name.ljust(100, b"\0")
    header[100:108] = b"0000644\0"
    header[124:136] = size.ljust(12, b"\0")[:12]
    header[148:156] = b" " * 8
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + b"\0" * (-len(content) % BLOCK)


@pytest.mark.parametrize("press", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_a_sound_layer_is_listed_whole(press) -> None:  # type: ignore[no-untyped-def]
    found = listed(press(tar_of(FILES)))
    assert found.ending is Ending.WHOLE
    assert [(entry.path, entry.kind, entry.size, entry.target) for entry in found.entries] == [
        ("bin", "folder", 0, ""),
        ("bin/busybox", "file", 5000, ""),
        ("bin/sh", "link", 0, "busybox"),
        ("etc", "folder", 0, ""),
        ("etc/empty", "file", 0, ""),
        ("etc/passwd", "file", 5, ""),
    ]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_names_longer_than_a_header_are_read(form: int) -> None:
    buffer, long, aim = io.BytesIO(), "folder/" * 40 + "file", "aim/" * 50
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        entry = tarfile.TarInfo(long)
        entry.type, entry.linkname = tarfile.SYMTYPE, aim
        archive.addfile(entry)
    (found,) = listed(buffer.getvalue()).entries
    assert (found.path, found.target) == (long, aim)


def test_a_gzip_of_several_members_is_one_layer() -> None:
    tar = tar_of(FILES)
    assert len(listed(gzip.compress(tar[:700]) + gzip.compress(tar[700:])).entries) == 6


def test_whiteouts_are_told_apart_from_files() -> None:
    found = listed(tar_of({"etc/.wh.passwd": b"", "var/.wh..wh..opq": b""})).entries
    assert [(one.path, one.kind) for one in found if one.kind != "folder"] == [
        ("etc/passwd", "removed"),
        ("var", "opaque"),
    ]


def test_names_are_shown_and_lead_nowhere() -> None:
    names = [b"/etc/shadow", b"../../up", b"./a/./b", b"bell\x07", b"\xff\xfe", "gpj\u202etxt.exe".encode()]
    found = listed(b"".join(map(member, names))).entries
    assert [(one.path, one.odd) for one in found] == [
        ("etc/shadow", True),
        ("../../up", True),
        ("a/b", False),
        ("bell\\x07", False),
        ("\\xff\\xfe", False),
        ("gpj\\u202etxt.exe", False),
    ]
    assert all(one.path.isprintable() for one in found)


def test_two_files_of_the_same_bytes_have_the_same_hash() -> None:
    found = listed(tar_of({"a": b"same", "b": b"same", "c": b"diff"})).entries
    assert found[0].hash == found[1].hash != found[2].hash


def test_what_is_no_tar_says_so() -> None:
    for content in (b"no tar at all" * 100, b"short", gzip.compress(b"text"), b"\x1f\x8b\x08\0rotten"):
        assert listed(content).ending in (Ending.NOT_TAR, Ending.DAMAGED)
        assert listed(content).entries == []
    assert listed(b"") == Listing()


def test_damage_ends_a_listing_after_what_was_sound() -> None:
    tar = tar_of({"a": noise("a", 600), "b": noise("b", 600)})
    pressed = gzip.compress(tar), zstandard.compress(tar)
    for content in (tar[:2000], tar[:1536] + b"\x55" * 2000, *(one[: len(one) // 2] for one in pressed)):
        found = listed(content)
        assert found.ending is Ending.DAMAGED
        assert len(found.entries) < 2


@pytest.mark.parametrize("kind", [b"x", b"L", b"K"])
def test_an_extended_header_of_any_size_takes_no_memory(kind: bytes) -> None:
    bomb = member(b"bomb", size=b"77777777777", kind=kind)
    tracemalloc.start()
    found = listed(bomb + b"\0" * 2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.ending is Ending.DAMAGED
    assert peak < 4 * 2**20


def test_a_size_that_is_negative_or_nonsense_is_damage() -> None:
    for size in (b"\xff" * 12, b"99999999999", b"hello world"):
        assert listed(member(b"a", size=size)).ending is Ending.DAMAGED


def test_a_bomb_stops_at_its_limits() -> None:
    zeros = gzip.compress(member(b"zeros", size=b"77777777777") + b"\0" * 2**24)
    assert listed(zeros, unpacked=2**20).ending is Ending.UNPACKED
    many = gzip.compress(b"".join(member(b"%d" % number) for number in range(2000)))
    found = listed(many, entries=100)
    assert (found.ending, len(found.entries)) == (Ending.ENTRIES, 100)
    assert listed(many, text=50).ending is Ending.TEXT


def test_a_bomb_unpacks_no_more_memory_than_a_piece() -> None:
    content = gzip.compress(member(b"zeros", size=b"00400000000") + b"\0" * 2**26)
    tracemalloc.start()
    listed(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**20


def test_time_is_up_even_where_nothing_comes_out() -> None:
    """A gzip header may hold a name of any length, which is read byte by byte."""
    ticks = itertools.count()
    content = b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"n" * 2**20
    found = read(io.BytesIO(content), Limits(seconds=10), clock=lambda: float(next(ticks)))
    assert found.ending is Ending.TIME
    assert next(ticks) < 40


def test_a_sparse_map_without_end_is_damage() -> None:
    header = bytearray(member(b"sparse", kind=b"S"))
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert listed(bytes(header)).ending is Ending.DAMAGED


def test_a_zstd_frame_that_asks_for_much_memory_is_refused() -> None:
    window = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    content = zstandard.ZstdCompressor(compression_params=window).compressobj().compress(b"x")
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + content[6:]  # a window of 2 GiB
    assert listed(frame + b"\0" * 100).ending is Ending.DAMAGED
