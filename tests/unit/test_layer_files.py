"""Folders of a layer, what a container of several layers sees, and how two of them differ."""

import io

from regserver.content.comparison import changes, layers, settings
from regserver.content.layer_files import folder, largest, merged, search
from regserver.content.tarlist import Limits, Listing, read
from support.showcase import tar_of


def of(*empty: str, **files: bytes) -> Listing:
    """A layer of empty files and others; ``__`` stands for a slash."""
    named = {name.replace("__", "/"): content for name, content in files.items()}
    return read(io.BytesIO(tar_of({**dict.fromkeys(empty, b""), **named})), Limits())


def seen(*found: Listing) -> dict[str, int]:
    return {path: entry.size for path, entry in merged(found).items()}


def test_a_folder_tells_what_is_below_it() -> None:
    listing = of(usr__bin__a=b"12", usr__bin__b=b"345", usr__c=b"6", top=b"")
    assert [(one.name, one.is_folder, one.size, one.count) for one in folder(listing, "")] == [
        ("usr", True, 6, 3),
        ("top", False, 0, 1),
    ]
    assert [(one.path, one.size) for one in folder(listing, "usr")] == [("usr/bin", 5), ("usr/c", 1)]
    assert folder(listing, "us") == folder(listing, "usr/c") == []


def test_files_are_found_by_any_part_of_their_path_and_by_size() -> None:
    listing = of(usr__bin__Python=b"12", etc__motd=b"345")
    assert [one.path for one in search(listing, "PYTH", 10)] == ["usr/bin/Python"]
    assert [one.path for one in largest(listing, 1)] == ["etc/motd"]


def test_later_layers_cover_earlier_ones() -> None:
    assert seen(of(a=b"1", b=b"2"), of(b=b"333")) == {"a": 1, "b": 3}


def test_a_whiteout_takes_away_what_is_below_and_not_beside() -> None:
    below = of(etc__a=b"1", etc__b__c=b"2", var__d=b"3")
    assert seen(below, of("etc/.wh.b")) == {"etc/a": 1, "var/d": 1}
    assert seen(below, of("etc/.wh..wh..opq", etc__new=b"44")) == {"etc/new": 2, "var/d": 1}
    assert seen(below, of(".wh.nothing")) == seen(below)


def test_a_file_in_the_place_of_a_folder_hides_what_was_in_it() -> None:
    assert seen(of(etc__a=b"1"), of(etc=b"22")) == {"etc": 2}


def test_files_that_differ_come_with_what_they_weigh() -> None:
    before, after = merged([of(a=b"1", same=b"s", gone=b"12345")]), merged([of(a=b"2", same=b"s", new=b"1")])
    found, same = changes(before, after)
    assert [(one.path, one.kind, one.growth) for one in found] == [
        ("gone", "removed", -5),
        ("new", "added", 1),
        ("a", "changed", 0),
    ]
    assert same == 1


def test_layers_are_paired_by_their_digests() -> None:
    one, two, three = ({"digest": name, "size": size} for name, size in (("x", 1), ("y", 2), ("z", 3)))
    found = layers([one, two], [one, three])
    assert [(pair.digest, pair.before, pair.after) for pair in found] == [
        ("x", True, True),
        ("y", True, False),
        ("z", False, True),
    ]


def test_settings_differ_by_name_and_not_by_history() -> None:
    before = {"config": {"User": "a", "Env": ["P=1", "Q=2"]}, "history": [1]}
    after = {"config": {"User": "b", "Env": ["P=1", "Q=3"], "Cmd": ["x", "y"]}, "history": [2]}
    assert [(one.name, one.before, one.after) for one in settings(before, after)] == [
        ("config.Cmd", None, "x y"),
        ("config.Env.Q", "2", "3"),
        ("config.User", "a", "b"),
    ]
    assert settings(None, None) == []
