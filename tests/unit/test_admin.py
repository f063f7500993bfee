"""The administrator's token: given, or made once; never a default one, never readable by others."""

import os
from pathlib import Path

import pytest

from regserver.auth import admin
from regserver.auth.admin import AdminTokenRefused
from regserver.config import Settings

GIVEN = "a-token-that-was-given"


def test_a_token_is_made_once_and_kept(tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    old = os.umask(0)
    try:
        made = admin.load(Settings(root=root), {})
    finally:
        os.umask(old)
    assert admin.is_token(made)
    assert admin.load(Settings(root=root), {}) == made
    assert (root / "admin-token").read_text() == made + "\n"
    assert (root / "admin-token").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in root.iterdir()] == ["admin-token"]


def test_two_starts_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, other = os.link, []

    def second_first(source: Path, target: Path) -> None:
        if not other:
            other.append(None)
            other.append(admin.load(Settings(root=tmp_path), {}))
        link(source, target)

    monkeypatch.setattr(os, "link", second_first)
    assert admin.load(Settings(root=tmp_path), {}) == other[1]
    assert [path.name for path in tmp_path.iterdir()] == ["admin-token"]


def test_the_file_of_the_settings_beats_the_environment_and_that_the_root(tmp_path: Path) -> None:
    made = admin.load(Settings(root=tmp_path), {})
    file = tmp_path / "secret"
    file.write_text(f"  {GIVEN}-in-a-file\n")
    environment = {"REGSERVER_ADMIN_TOKEN": f"{GIVEN}-by-variable\n"}
    assert admin.load(Settings(root=tmp_path), {}) == made
    assert admin.load(Settings(root=tmp_path), environment) == f"{GIVEN}-by-variable"
    assert admin.load(Settings(root=tmp_path, admin_token_file=file), environment) == f"{GIVEN}-in-a-file"


def test_a_given_token_is_not_written_down(tmp_path: Path) -> None:
    admin.load(Settings(root=tmp_path), {"REGSERVER_ADMIN_TOKEN": GIVEN})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bad", ["", " ", "admin", "short", "fifteen-chars-x", "with a space inside", "tab\tinside-it-1234"]
)
def test_cve_2026_4404_a_token_that_can_be_guessed_is_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(AdminTokenRefused) as refused:
        admin.load(Settings(root=tmp_path), {"REGSERVER_ADMIN_TOKEN": bad})
    assert str(refused.value).startswith("REGSERVER_ADMIN_TOKEN: ")
    assert len(bad) < 6 or bad not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"t\xc3\xb6ken-with-an-umlaut", b"\xff" * 40])
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(AdminTokenRefused, match="secret"):
        admin.load(Settings(root=tmp_path, admin_token_file=file), {})


def test_a_file_that_is_missing_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        admin.load(Settings(root=tmp_path, admin_token_file=tmp_path / "nowhere"), {})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_made_token_that_others_may_read_refuses_to_start(tmp_path: Path, mode: int) -> None:
    made = admin.load(Settings(root=tmp_path), {})
    (tmp_path / "admin-token").chmod(mode)
    with pytest.raises(AdminTokenRefused, match="chmod 600") as refused:
        admin.load(Settings(root=tmp_path), {})
    assert made not in str(refused.value)


def test_a_made_token_carries_a_checksum_that_a_scanner_knows_it_by() -> None:
    tokens = {admin.new_token() for _ in range(100)}
    assert len(tokens) == 100
    for token in tokens:
        assert token.startswith("rsv_")
        assert len(token) == 42
        assert admin.is_token(token)
        changed = token[:10] + ("a" if token[10] != "a" else "b") + token[11:]
        assert not admin.is_token(changed)
    assert not any(map(admin.is_token, ["", "rsv_", "rsv_" + "0" * 38, "xxx_" + token[4:], token[:-1], token + "0"]))


def test_a_fingerprint_tells_tokens_apart_and_shows_none() -> None:
    assert admin.fingerprint(GIVEN) == admin.fingerprint(GIVEN)
    assert admin.fingerprint(GIVEN) != admin.fingerprint(GIVEN + "x")
    assert GIVEN not in admin.fingerprint(GIVEN)


def test_what_a_start_left_that_ended_before_its_token_had_a_name_goes_at_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", crash)
        patch.setattr(Path, "unlink", crash)
        with pytest.raises(KeyboardInterrupt):
            admin.load(Settings(root=tmp_path), {})
    assert [path.name for path in tmp_path.iterdir()] != []
    admin.load(Settings(root=tmp_path), {})
    assert [path.name for path in tmp_path.iterdir()] == ["admin-token"]
