"""Signing keys: made once, private, rotated without a password or a token noticing before its time."""

import asyncio
import os
from pathlib import Path

import pytest

from regserver.auth import keys as keys_module
from regserver.auth.keys import KeyRefused, Keys, rotate, tidy
from regserver.errors import ErrorCode, RegistryError
from regserver.storage.catalog import accounts
from regserver.storage.sql.migrate import migrate
from regserver.storage.sql.sqlite import SQLiteDatabase
from support.identities import basic, opened_house, parts_of


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "keys").iterdir())


async def test_the_first_start_makes_a_key_that_only_its_owner_may_read(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        async with opened_house(tmp_path, fresh_key=True) as house:
            active = await house.active_key()
    finally:
        os.umask(old)
    assert files(tmp_path) == [f"{active}.pem"]
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keys" / f"{active}.pem").stat().st_mode & 0o777 == 0o600


async def test_a_key_is_rsa_of_2048_bits(tmp_path: Path) -> None:
    async with opened_house(tmp_path, fresh_key=True) as house:
        key = house.keys.private(await house.active_key())
    assert (key.key_size, key.public_key().public_numbers().e) == (2048, 65537)


async def test_a_second_start_keeps_key_and_installation(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        before = (await house.active_key(), await house.installation())
    async with opened_house(tmp_path) as house:
        assert (await house.active_key(), await house.installation()) == before
    assert len(files(tmp_path)) == 1


async def test_two_first_starts_at_once_agree_on_the_key_that_signs(tmp_path: Path) -> None:
    db = await SQLiteDatabase.open(tmp_path / "catalog.sqlite3")
    await migrate(db)
    loaded = await asyncio.gather(*(Keys.load(tmp_path, db) for _ in range(2)))
    active = await accounts.active_key(db)
    assert active is not None
    assert len({keys.sign(active, b"signed") for keys in loaded}) == 1
    assert files(tmp_path) == [f"{active}.pem"]
    assert (await accounts.installation_id(db)).startswith("inst_")
    await db.close()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
async def test_a_key_that_others_may_read_refuses_to_start(tmp_path: Path, mode: int) -> None:
    async with opened_house(tmp_path) as house:
        path = tmp_path / "keys" / f"{await house.active_key()}.pem"
    path.chmod(mode)
    with pytest.raises(KeyRefused, match="chmod 600") as refused:
        async with opened_house(tmp_path):
            pass
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_a_folder_that_others_may_enter_refuses_to_start(tmp_path: Path) -> None:
    async with opened_house(tmp_path):
        pass
    (tmp_path / "keys").chmod(0o750)
    with pytest.raises(KeyRefused, match="chmod 700"):
        async with opened_house(tmp_path):
            pass


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\0" * 99]
)
async def test_a_damaged_key_refuses_to_start_and_shows_nothing_of_it(tmp_path: Path, content: bytes) -> None:
    async with opened_house(tmp_path) as house:
        path = tmp_path / "keys" / f"{await house.active_key()}.pem"
    path.write_bytes(content)
    with pytest.raises(KeyRefused, match="does not hold an RSA private key") as refused:
        async with opened_house(tmp_path):
            pass
    assert "BEGIN" not in str(refused.value)


async def test_a_missing_key_refuses_to_start_and_says_how_to_go_on(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        (tmp_path / "keys" / f"{await house.active_key()}.pem").unlink()
    with pytest.raises(KeyRefused, match="regserver keys rotate"):
        async with opened_house(tmp_path):
            pass


async def test_a_key_is_durable_before_its_name_is_and_its_name_before_it_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename, activate = os.fsync, Path.rename, accounts.activate_key

    def recorded_fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        steps.append("fsync staged" if name.startswith(".") else f"fsync {name}")
        fsync(descriptor)

    def recorded_rename(path: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(path, target)

    async def recorded_activate(tx: object, key_id: str, now: int) -> str | None:
        steps.append("activate")
        return await activate(tx, key_id, now)  # type: ignore[arg-type]

    async with opened_house(tmp_path) as house:
        monkeypatch.setattr(os, "fsync", recorded_fsync)
        monkeypatch.setattr(Path, "rename", recorded_rename)
        monkeypatch.setattr(accounts, "activate_key", recorded_activate)
        await rotate(tmp_path, house.core.db)
        monkeypatch.undo()
    assert steps[:4] == ["fsync staged", "rename", "fsync keys", "activate"]


async def test_a_rotation_signs_with_a_new_key_and_keeps_the_old_one_for_the_passwords_that_need_it(
    tmp_path: Path,
) -> None:
    async with opened_house(tmp_path) as house:
        registry = await house.open_registry("a")
        await house.open_registry("b")
        old, before = await house.active_key(), await house.robots.credentials(registry)
        rotation = await rotate(tmp_path, house.core.db)
        assert rotation.active == await house.active_key() != old
        assert rotation.retired == old
        assert rotation.held == ((old, ("robot$a", "robot$b")),)
        assert rotation.removed == ()
        assert await house.robots.credentials(registry) == before
    async with opened_house(tmp_path) as house:
        assert await house.robots.credentials(registry) == before
        assert (await house.authenticator.account(*before)).subject == "robot$a"


async def test_a_running_server_signs_with_a_key_that_another_process_made(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as server, opened_house(tmp_path) as command_line:
        old_token = await server.draw_token()
        rotation = await rotate(tmp_path, command_line.core.db)
        new_token = await server.draw_token()
        assert parts_of(new_token)[0]["kid"] == rotation.active != parts_of(old_token)[0]["kid"]
        for token in (old_token, new_token):
            assert (await server.tokens.verify(token)).subject == ""


async def test_a_running_server_accepts_a_token_that_another_one_signed_with_a_newer_key(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as server, opened_house(tmp_path) as other:
        await rotate(tmp_path, other.core.db)
        token = await other.draw_token()
        assert (await server.tokens.verify(token)).binding.kind.value == "anonymous"


async def test_a_key_that_no_password_needs_keeps_only_its_public_half_until_its_tokens_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_house(tmp_path) as house:
        registry = await house.open_registry("a")
        old, token = await house.active_key(), await house.draw_token()
        await rotate(tmp_path, house.core.db)
        username, password, _ = await house.robots.rotate(registry)
        assert await tidy(tmp_path, house.core.db) == ()
        assert files(tmp_path) == sorted([f"{old}.pub.pem", f"{await house.active_key()}.pem"])

    async with opened_house(tmp_path) as house:
        assert (await house.tokens.verify(token)).subject == ""
        assert (await house.authenticator.account(username, password)).subject == "robot$a"
        assert await tidy(tmp_path, house.core.db) == ()
        later = keys_module.now_ms() + (keys_module.LONGEST_TOKEN_SECONDS + 121) * 1000
        monkeypatch.setattr(keys_module, "now_ms", lambda: later)
        assert await tidy(tmp_path, house.core.db) == (old,)
        assert files(tmp_path) == [f"{await house.active_key()}.pem"]
        assert await accounts.retired_keys(house.core.db) == []


async def test_a_key_that_a_password_needs_outlives_every_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_house(tmp_path) as house:
        registry = await house.open_registry("a")
        old, before = await house.active_key(), await house.robots.credentials(registry)
        for _ in range(2):
            later = keys_module.now_ms() + 10**7
            monkeypatch.setattr(keys_module, "now_ms", lambda at=later: at)
            rotation = await rotate(tmp_path, house.core.db)
        assert rotation.held == ((old, ("robot$a",)),)
        assert len(rotation.removed) == 0  # the one in between has lost its private half only
    async with opened_house(tmp_path) as house:
        assert await house.robots.credentials(registry) == before


async def test_a_key_that_a_new_password_names_while_another_is_made_active_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = accounts.retired_keys
    async with opened_house(tmp_path) as house, opened_house(tmp_path) as other:
        old = await house.active_key()

        async def read_late(reader: object) -> list[tuple[str, int]]:
            monkeypatch.undo()
            await house.open_registry("a")
            await other.core.db.write(lambda tx: accounts.activate_key(tx, key_id, 0))
            return await read(reader)  # type: ignore[arg-type]

        key_id = keys_module.generate(tmp_path)
        monkeypatch.setattr(accounts, "retired_keys", read_late)
        assert await tidy(tmp_path, house.core.db) == ()
        assert files(tmp_path) == sorted([f"{old}.pem", f"{key_id}.pem"])


async def test_a_rotation_repairs_an_installation_whose_key_is_lost(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        registry = await house.open_registry("a")
        old_login = await house.robots.credentials(registry)
        (tmp_path / "keys" / f"{await house.active_key()}.pem").unlink()
        await rotate(tmp_path, house.core.db)
    async with opened_house(tmp_path) as house:
        with pytest.raises(RegistryError) as refused:
            await house.robots.credentials(registry)
        assert refused.value.code is ErrorCode.NOT_READY
        with pytest.raises(RegistryError) as refused:
            await house.authenticator.caller(basic(*old_login), "192.0.2.7")
        assert refused.value.code is ErrorCode.UNAUTHORIZED
        assert (await house.authenticator.account(*(await house.robots.rotate(registry))[:2])).subject == "robot$a"


async def test_a_key_id_that_is_none_is_never_made_a_path(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        with pytest.raises(KeyRefused, match="malformed"):
            house.keys.public("../keys/" + await house.active_key())


async def test_a_key_stays_while_a_password_in_its_grace_needs_it(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        registry = await house.open_registry("a")
        old = await house.robots.credentials(registry)
        first = await accounts.active_key(house.core.db)
        await rotate(tmp_path, house.core.db, token_seconds=0)
        await house.robots.rotate(registry, grace_seconds=3600)
        rotation = await rotate(tmp_path, house.core.db, token_seconds=0)
        assert first in [key for key, _ in rotation.held]
        assert (await house.authenticator.account(*old)).subject == "robot$a"


@pytest.mark.parametrize("left", ["a key", "half a key"])
async def test_a_key_that_a_crash_kept_from_becoming_active_goes_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    async with opened_house(tmp_path) as house:
        before = files(tmp_path)
        if left == "half a key":
            monkeypatch.setattr(Path, "rename", crash)
        else:
            monkeypatch.setattr(accounts, "take_announced_key", crash)
        with pytest.raises(KeyboardInterrupt):
            await rotate(tmp_path, house.core.db)
        monkeypatch.undo()
        assert len(files(tmp_path)) == 2
        await Keys.load(tmp_path, house.core.db)
        assert files(tmp_path) == before
        assert (await rotate(tmp_path, house.core.db)).active not in before[0]


async def test_a_rotation_whose_key_a_starting_server_gives_up_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = keys_module.generate

    async with opened_house(tmp_path) as house:
        before = await house.active_key(), files(tmp_path)
        loop = asyncio.get_running_loop()

        def make_slowly(root: Path, key_id: str) -> str:
            asyncio.run_coroutine_threadsafe(Keys.load(tmp_path, house.core.db), loop).result()
            return make(root, key_id)

        monkeypatch.setattr(keys_module, "generate", make_slowly)
        with pytest.raises(KeyRefused, match="regserver keys rotate"):
            await rotate(tmp_path, house.core.db)
        assert (await house.active_key(), files(tmp_path)) == before
