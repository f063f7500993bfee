"""``regserver doctor --root``: what it sees in a folder and in the machine under it, and that it changes nothing."""

import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from regserver.__main__ import main
from regserver.doctor import folder
from support import postgres
from support.proxies import make_certificate


class Doctor:
    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._root, self._capsys = root, capsys

    def __call__(self, *arguments: str) -> tuple[int, dict[str, list[str]]]:
        """Its exit code, and what is not well: check → level, message, what to do next."""
        code = main(["doctor", "--root", str(self._root), "--json", *arguments])
        rows = json.loads(self._capsys.readouterr().out)["findings"]
        assert all((row["level"] == "ok") == (row["next"] == "") for row in rows), rows
        return code, {row["check"]: [row["level"], row["message"], row["next"]] for row in rows if row["next"]}


@pytest.fixture
def doctor(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Doctor:
    monkeypatch.setattr(folder, "SLOW_SECONDS", 60.0)  # the disk of whoever runs this
    monkeypatch.setattr(folder, "VERY_SLOW_SECONDS", 60.0)
    monkeypatch.setattr(folder, "mount_of", lambda path: ("ext4", set()))
    return Doctor(root, capsys)


def test_a_sound_folder_is_well_and_stays_as_it_is(doctor: Doctor, root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert doctor("--strict") == (0, {})
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert after == before


def test_what_is_said_to_a_person_names_the_next_step(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--root", str(root / "nowhere")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("error    root        ")
    assert "name the folder that serve was given" in lines[1]
    assert lines[-1] == "1 error, 0 warnings"


def test_another_folder_is_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--root", str(tmp_path)]) == 1
    assert "holds no catalog" in capsys.readouterr().out


def test_secrets_that_others_may_read_are_named(doctor: Doctor, root: Path) -> None:
    key = next(path for path in (root / "keys").iterdir() if path.is_file())
    key.chmod(0o644)
    code, found = doctor()
    assert (code, found["secrets"][0]) == (1, "error")
    assert f"chmod 600 {key}" in found["secrets"][2]


def test_a_damaged_catalog_is_found(doctor: Doctor, root: Path) -> None:
    catalog = root / "catalog.sqlite3"
    with sqlite3.connect(catalog) as opened:
        opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    opened.close()
    with catalog.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 4)
    code, found = doctor()
    assert (code, found["catalog"][0]) == (1, "error")
    assert "keep a copy" in found["catalog"][2]


@pytest.mark.parametrize(
    ("kind", "options", "level"),
    [
        ("nfs4", {"rw"}, "error"),
        ("tmpfs", {"rw"}, "warning"),
        ("overlay", {"rw"}, "warning"),
        ("ext4", {"ro"}, "error"),
    ],
)
def test_a_filesystem_that_keeps_no_promise_is_named(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, kind: str, options: set[str], level: str
) -> None:
    monkeypatch.setattr(folder, "mount_of", lambda path: (kind, options))
    code, found = doctor()
    assert (code, found["filesystem"][0]) == (1 if level == "error" else 0, level)


def test_the_filesystem_of_a_folder_is_that_of_the_nearest_mount_above_it(tmp_path: Path) -> None:
    table = (
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"22 21 0:5 / {tmp_path} rw - nfs4 server:/x rw\n"
        f"23 22 0:6 / {tmp_path}/with\\040space ro,noatime - xfs /dev/sdb rw\n"
    )
    assert folder.mount_of(tmp_path / "a", table)[0] == "nfs4"
    kind, options = folder.mount_of(tmp_path / "with space", table)
    assert (kind, "ro" in options) == ("xfs", True)
    assert folder.mount_of(Path(f"{tmp_path}-other"), table)[0] == "ext4"


class Disk:
    """What statvfs says of a disk of 100 GiB."""

    f_frsize, f_blocks, f_files = 4096, 25 * 2**20, 1000

    def __init__(self, free: int, inodes: int) -> None:
        self.f_bavail, self.f_favail = free // 4096, inodes


@pytest.mark.parametrize(
    ("free", "inodes", "check", "level"),
    [(2**20, 500, "space", "error"), (2**31, 500, "space", "warning"), (2**36, 3, "inodes", "error")],
)
def test_a_disk_that_is_nearly_full_is_named(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, check: str, level: str
) -> None:
    monkeypatch.setattr(folder.os, "statvfs", lambda path: Disk(free, inodes))
    code, found = doctor("--reserve-bytes", "67108864")
    assert (code, {name: row[0] for name, row in found.items()}) == (1 if level == "error" else 0, {check: level})


def test_a_slow_disk_is_named(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "SLOW_SECONDS", 0.0)
    code, found = doctor()
    assert (code, found["sync"][0], doctor("--strict")[0]) == (0, "warning", 1)
    monkeypatch.setattr(folder, "VERY_SLOW_SECONDS", 0.0)
    assert doctor()[0] == 1


def test_a_disk_that_does_not_sync_is_named(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(folder.os, "fsync", fail)
    code, found = doctor()
    assert (code, found["sync"][:2]) == (1, ["error", "the disk does not sync: Input/output error"])


def test_a_clock_that_is_behind_is_found(doctor: Doctor, root: Path) -> None:
    tomorrow = time.time() + 86400
    os.utime(root / "installation", (tomorrow, tomorrow))
    code, found = doctor()
    assert (code, found["clock"][0]) == (1, "error")


def test_too_few_open_files_are_found(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder.resource, "getrlimit", lambda what: (256, 1024))
    assert "LimitNOFILE" in doctor()[1]["files"][2]


def test_certificates_are_looked_at_before_they_are_served(doctor: Doctor, tmp_path: Path) -> None:
    made, other = (
        make_certificate(tmp_path / "made", "*.example.com"),
        make_certificate(tmp_path / "other", "x", days=3),
    )
    made.chain.write_bytes(made.chain.read_bytes() + made.authority.read_bytes())

    def given(chain: Path, key: Path, *more: str) -> Any:
        return doctor("--tls-cert", str(chain), "--tls-key", str(key), *more)

    assert given(made.chain, made.key, "--public-url", "https://registry.example.com") == (0, {})
    for url in ("https://registry.example.org", "https://a.b.example.com", "https://example.com"):
        assert "names include" in given(made.chain, made.key, "--public-url", url)[1]["tls"][2]
    assert "in PEM" in given(made.chain, other.key)[1]["tls"][2], "a key of another certificate"
    made.key.chmod(0o640)
    assert "chmod 600" in given(made.chain, made.key)[1]["tls"][2]
    assert given(other.chain, other.key)[0] == 0, "an end in three days is a warning, and so is a chain of one"
    assert given(other.chain, other.key, "--strict")[0] == 1


@pytest.mark.parametrize("more", [("--trusted-proxies", "0.0.0.0/0"), ("--trusted-proxies", "::/0")])
def test_trusting_everybody_is_a_mistake(doctor: Doctor, more: tuple[str, ...]) -> None:
    assert doctor(*more)[1]["settings"][0] == "error"


def test_a_proxy_that_nobody_trusts_is_named(doctor: Doctor) -> None:
    behind = ("--public-url", "https://registry.example.com")
    code, found = doctor(*behind)
    assert (code, found["settings"][0], "--trusted-proxies" in found["settings"][2]) == (0, "warning", True)
    assert doctor(*behind, "--trusted-proxies", "127.0.0.1") == (0, {})


def test_a_server_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--server", "ftp://x"]) == 2
    assert "must be http" in capsys.readouterr().err


def test_a_postgres_server_that_is_not_there_is_named(doctor: Doctor) -> None:
    code, found = doctor("--database", "postgresql://nobody:a-secret@127.0.0.1:1/none")
    assert (code, found["catalog"][0]) == (1, "error")
    assert "a-secret" not in str(found)


def test_a_postgres_catalog_is_asked_whether_it_belongs_to_the_folder(doctor: Doctor, root: Path) -> None:
    catalog = root / "catalog.sqlite3"
    url = postgres.server().catalog_like(catalog)
    catalog.unlink()
    assert doctor("--database", url) == (0, {})
    (root / "installation").write_text("another")
    code, found = doctor("--database", url)
    assert (code, "belongs to another catalog" in found["catalog"][1]) == (1, True)
