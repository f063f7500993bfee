"""Robots: a password that is minted again from its row, and that ends with the commit of its rotation."""

import ast
import hashlib
import inspect
import time
from pathlib import Path

import pytest

from regserver.auth import admin, robots
from regserver.auth.keys import KeyRefused, rotate
from regserver.errors import ErrorCode, RegistryError, Unauthorized
from regserver.storage.sql.port import IntegrityFailed
from support.identities import ADDRESS, PULL, add_robot, basic, bearer, change_claims, opened_house, parts_of, scopes_of


async def test_a_password_is_a_jwt_with_exactly_the_header_of_the_contract(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        username, password = await house.robots.credentials(await house.open_registry("my-images"))
    assert username == "robot$my-images"
    assert password.startswith("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.")
    assert list(parts_of(password)[0].items()) == [("alg", "RS256"), ("typ", "JWT")]


async def test_a_password_names_the_installation_and_never_an_address(tmp_path: Path) -> None:
    async with opened_house(tmp_path, public_url="https://registry.example.com") as house:
        installation = await house.installation()
        _, password = await house.robots.credentials(await house.open_registry("a"))
    claims = parts_of(password)[1]
    assert list(claims) == ["iss", "aud", "sub", "jti", "iat", "nbf", "exp"]
    assert (claims["iss"], claims["aud"]) == (installation, f"{installation}/passwords")
    assert claims["sub"] == "robot$a"
    assert claims["exp"] - time.time() > 50 * 365 * 86400
    assert "example" not in str(claims)


async def test_a_password_is_the_same_each_time_and_after_a_restart(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        registry = await house.open_registry("a")
        shown = [await house.robots.credentials(registry) for _ in range(2)]
    async with opened_house(tmp_path) as house:
        shown.append(await house.robots.credentials(registry))
        assert (await house.authenticator.account(*shown[0])).registry_id == registry
    assert len(set(shown)) == 1


async def test_no_table_and_no_file_but_the_key_holds_a_secret(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        _, password = await house.robots.credentials(await house.open_registry("a"))
        digest = hashlib.sha256(password.encode()).digest()
        assert (await house.robots.authenticate("robot$a", password)) is not None
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) >= 2
        for path in files:
            content = path.read_bytes()
            assert password.rpartition(".")[2].encode() not in content
            assert digest not in content


async def test_a_rotation_ends_the_old_password_and_every_token_drawn_from_it(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        registry = await house.open_registry("a")
        old = await house.robots.credentials(registry)
        token = await house.draw_token(*old, "a/api")
        assert (await house.authenticator.caller(bearer(token), ADDRESS)).account.subject == "robot$a"
        new = (await house.robots.rotate(registry))[:2]
        assert new[0] == old[0]
        assert new[1] != old[1]
        assert new == await house.robots.credentials(registry)
        for dead in (bearer(token), basic(*old)):
            with pytest.raises(Unauthorized) as refused:
                await house.authenticator.caller(dead, ADDRESS)
            assert refused.value.error == "invalid_token"
        alive = await house.draw_token(*new, "a/api")
        assert (await house.authenticator.caller(bearer(alive), ADDRESS)).account.subject == "robot$a"


async def test_a_rotation_in_another_process_holds_from_the_next_request_on(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as server, opened_house(tmp_path) as other:
        registry = await server.open_registry("a")
        old = await server.robots.credentials(registry)
        token = await server.draw_token(*old, "a/api")
        assert (await server.authenticator.caller(basic(*old), ADDRESS)).account.subject == "robot$a"
        await other.robots.rotate(registry)
        for dead in (bearer(token), basic(*old)):
            with pytest.raises(Unauthorized):
                await server.authenticator.caller(dead, ADDRESS)


async def test_a_token_drawn_while_its_password_is_rotated_is_dead(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        registry = await house.open_registry("a")
        identity = await house.authenticator.login(*await house.robots.credentials(registry))
        await house.robots.rotate(registry)
        token, _ = await house.tokens.issue(identity.account.subject, identity.binding, scopes_of("a/api"))
        with pytest.raises(Unauthorized):
            await house.authenticator.caller(bearer(token), ADDRESS)


async def test_a_rotation_that_cannot_sign_leaves_the_old_password_in_force(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house, opened_house(tmp_path) as other:
        registry = await house.open_registry("a")
        old = await house.robots.credentials(registry)
        rotation = await rotate(tmp_path, other.core.db)
        (tmp_path / "keys" / f"{rotation.active}.pem").unlink()
        with pytest.raises(KeyRefused):
            await house.robots.rotate(registry)
        assert (await house.authenticator.account(*old)).subject == "robot$a"


async def test_credentials_of_a_registry_that_is_not_there_are_not_found(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        for act in (house.robots.credentials, house.robots.rotate):
            with pytest.raises(RegistryError) as refused:
                await act("reg_nowhere")
            assert refused.value.code is ErrorCode.NOT_FOUND


async def test_cve_2022_31667_a_robot_of_a_deleted_registry_is_a_stranger_to_the_next_of_that_name(
    tmp_path: Path,
) -> None:
    async with opened_house(tmp_path) as house:
        first = await house.open_registry("a")
        old = await house.robots.credentials(first)
        token = await house.draw_token(*old, "a/api")
        await house.registries.delete(first, force=True)
        for dead in (basic(*old), bearer(token)):
            with pytest.raises(Unauthorized):
                await house.authenticator.caller(dead, ADDRESS)
        second = await house.open_registry("a")
        for dead in (basic(*old), bearer(token)):
            with pytest.raises(Unauthorized):
                await house.authenticator.caller(dead, ADDRESS)
        account = await house.authenticator.account(*await house.robots.credentials(second))
        assert account.registry_id == second != first


@pytest.mark.parametrize("status", ["creating", "error", "deleting"])
async def test_a_robot_of_a_registry_that_is_not_active_is_refused(tmp_path: Path, status: str) -> None:
    async with opened_house(tmp_path) as house:
        login = await house.robots.credentials(await house.open_registry("a"))
        token = await house.draw_token(*login, "a/api")
        await house.core.db.write(lambda tx: tx.execute("UPDATE registries SET status = $1", status))
        for dead in (basic(*login), bearer(token)):
            with pytest.raises(Unauthorized):
                await house.authenticator.caller(dead, ADDRESS)


async def test_an_expired_password_is_refused(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        registry = await house.open_registry("a")
        await change_claims(house, registry, exp=int(time.time()) - 1)
        with pytest.raises(Unauthorized):
            await house.authenticator.account(*await house.robots.credentials(registry))


async def test_a_robot_may_be_given_less(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        registry = await house.open_registry("a")
        login = await add_robot(house.core, house.keys, registry, "robot$a+reader", PULL)
        assert (await house.authenticator.account(*login)).actions == PULL
        assert (await house.robots.credentials(registry))[0] == "robot$a"


async def test_a_username_stands_for_one_robot(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        registry = await house.open_registry("a")
        with pytest.raises(IntegrityFailed):
            await add_robot(house.core, house.keys, registry, "robot$a", PULL)


async def test_cve_2023_20902_an_unknown_name_is_compared_like_a_known_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []

    def compare(given: bytes, expected: bytes) -> bool:
        compared.append((len(given), len(expected)))
        return False

    async with opened_house(tmp_path) as house:
        await house.open_registry("a")
        monkeypatch.setattr(robots.hmac, "compare_digest", compare)
        for name in ("robot$a", "robot$nobody", "somebody", ""):
            assert await house.robots.authenticate(name, "x" * 99) is None
    assert compared == [(32, 32)] * 4


def test_cve_2023_20902_secrets_are_compared_only_by_compare_digest() -> None:
    for function in (robots.Robots._is_password, admin.same):
        assert "hmac.compare_digest(" in inspect.getsource(function)
    secret_names = {
        "password",
        "token",
        "given",
        "expected",
        "admin_token",
        "_admin_token",
        "credential",
        "fingerprint",
    }
    for path in sorted(Path(inspect.getfile(robots)).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                names = {getattr(side, "id", getattr(side, "attr", "")) for side in (node.left, *node.comparators)}
                assert not names & secret_names, f"{path.name}:{node.lineno} compares a secret with =="


async def test_cve_2026_4404_a_new_installation_lets_nobody_in(tmp_path: Path) -> None:
    async with opened_house(tmp_path, admin_token=admin.new_token()) as house:
        for username in ("admin", "robot$library", "root", "robot$", "developer"):
            for password in ("", "admin", "password", "Harbor12345", "changeme", "regserver", username):
                with pytest.raises(Unauthorized):
                    await house.authenticator.account(username, password)
