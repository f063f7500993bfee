"""Who asks: every form of the Authorization header, in a closed house and in an open one."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from regserver.auth.scopes import Scopes
from regserver.auth.tokens import Binding
from regserver.errors import Unauthorized
from regserver.model.access import Account, Caller, Kind
from regserver.model.names import RepositoryName
from support.identities import ADDRESS, ADMIN_TOKEN, ALL, PULL, House, basic, bearer, opened_house

API = RepositoryName.parse("a/api")


@dataclass
class Tenant:
    house: House
    registry: str
    username: str
    password: str


@pytest_asyncio.fixture
async def tenant(tmp_path: Path) -> AsyncIterator[Tenant]:
    async with opened_house(tmp_path) as house:
        registry = await house.open_registry("a")
        yield Tenant(house, registry, *await house.robots.credentials(registry))


async def ask(tenant: Tenant, authorization: str | None) -> Caller:
    return await tenant.house.authenticator.caller(authorization, ADDRESS)


async def test_nobody_is_anonymous(tenant: Tenant) -> None:
    assert await ask(tenant, None) == Caller(Account(Kind.ANONYMOUS, ""), f"anonymous@{ADDRESS}", shared=True)


@pytest.mark.parametrize("username", ["robot$a", "robot%24a"])
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
async def test_a_robot_with_its_password_shares_its_session_with_its_address(
    tenant: Tenant, username: str, scheme: str
) -> None:
    value = basic(username, tenant.password).removeprefix("Basic")
    account = Account(Kind.ROBOT, "robot$a", tenant.registry, ALL)
    assert await ask(tenant, scheme + value) == Caller(account, f"robot$a@{ADDRESS}", shared=True)


@pytest.mark.parametrize("authorization", [basic("admin", ADMIN_TOKEN), bearer(ADMIN_TOKEN), f"bearer  {ADMIN_TOKEN} "])
async def test_the_administrator_may_come_with_either_scheme(tenant: Tenant, authorization: str) -> None:
    assert await ask(tenant, authorization) == Caller(Account(Kind.ADMIN, "admin"), f"admin@{ADDRESS}", shared=True)


async def test_a_bearer_token_is_a_session_of_its_own_and_narrows(tenant: Tenant) -> None:
    token = await tenant.house.draw_token(tenant.username, tenant.password, "a/api:pull")
    caller = await ask(tenant, bearer(token))
    assert caller.session == (await tenant.house.tokens.verify(token)).session
    assert not caller.shared
    assert not caller.catalog
    assert caller.scopes == {API: PULL}
    assert caller.account == Account(Kind.ROBOT, "robot$a", tenant.registry, ALL)


async def test_an_anonymous_token_is_good_and_holds_nothing(tenant: Tenant) -> None:
    caller = await ask(tenant, bearer(await tenant.house.draw_token(None, "", "a/api")))
    assert (caller.account.kind, caller.scopes) == (Kind.ANONYMOUS, {})


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


REFUSED = {
    "an empty header": "",
    "no scheme": "x",
    "an unknown scheme": "Digest username=admin",
    "negotiate": "Negotiate YII=",
    "nothing after Basic": "Basic",
    "nothing after Basic and a space": "Basic ",
    "nothing after Bearer": "Bearer ",
    "no base64": "Basic !!!!",
    "good base64 with something inside": basic("admin", ADMIN_TOKEN).replace("Basic YWRt", "Basic YWRt!"),
    "good base64 with a space inside": basic("admin", ADMIN_TOKEN).replace("Basic YWRt", "Basic YWRt "),
    "base64 cut short": "Basic YWRtaW46e",
    "no colon": f"Basic {encoded(b'admin')}",
    "no UTF-8": f"Basic {encoded(b'admin:' + bytes([0xFF, 0xFE]))}",
    "not even ASCII": "Basic \u00e4",
    "a byte that is no text": "Bearer \udcff",
    "the administrator without a password": basic("admin", ""),
    "the administrator with a wrong one": basic("admin", ADMIN_TOKEN[:-1]),
    "the administrator with more": basic("admin", ADMIN_TOKEN + "x"),
    "the administrator in capitals": basic("ADMIN", ADMIN_TOKEN),
    "the administrator's token for a robot": basic("robot$a", ADMIN_TOKEN),
    "the administrator's token without a name": basic("", ADMIN_TOKEN),
    "a robot without a password": basic("robot$a", ""),
    "a robot with a wrong one": basic("robot$a", "x"),
    "a robot that is not there": basic("robot$b", "x"),
    "a robot with a name like a pattern": basic("robot$%", "x"),
    "a NUL": basic("robot$a\0", "x"),
    "a very long name": basic("robot$" + "a" * 20_000, "x"),
    "a developer": basic("developer", "x"),
}


@pytest.mark.parametrize("authorization", REFUSED.values(), ids=REFUSED)
async def test_credentials_that_are_not_good_are_refused_alike(tenant: Tenant, authorization: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        await ask(tenant, authorization)
    assert (refused.value.error, refused.value.scope, refused.value.detail) == ("invalid_token", None, None)
    assert refused.value.message == "authentication required"
    with pytest.raises(Unauthorized):
        await tenant.house.authenticator.identity(authorization)


async def test_the_right_password_of_another_robot_is_refused(tenant: Tenant) -> None:
    other = await tenant.house.open_registry("b")
    _, password = await tenant.house.robots.credentials(other)
    with pytest.raises(Unauthorized):
        await ask(tenant, basic(tenant.username, password))


async def test_a_bearer_token_draws_no_other(tenant: Tenant) -> None:
    token = await tenant.house.draw_token(tenant.username, tenant.password, "a/api")
    for authorization in (bearer(token), bearer(ADMIN_TOKEN)):
        with pytest.raises(Unauthorized):
            await tenant.house.authenticator.identity(authorization)


async def test_an_administrator_s_token_ends_with_the_one_it_was_drawn_from(tmp_path: Path) -> None:
    async with opened_house(tmp_path) as house:
        token = await house.draw_token("admin", ADMIN_TOKEN, "a/api")
        caller = await house.authenticator.caller(bearer(token), ADDRESS)
        assert (caller.account.kind, caller.scopes) == (Kind.ADMIN, {API: ALL})
    async with opened_house(tmp_path, admin_token="another-token-of-the-administrator") as house:
        with pytest.raises(Unauthorized):
            await house.authenticator.caller(bearer(token), ADDRESS)


async def test_a_token_bound_to_a_row_that_is_another_s_is_refused(tenant: Tenant) -> None:
    identity = await tenant.house.authenticator.login(tenant.username, tenant.password)
    for subject, binding in (
        ("robot$b", identity.binding),
        ("robot$a", Binding(Kind.ROBOT, "cred_nowhere", 1)),
        ("robot$a", Binding(Kind.ROBOT, identity.binding.credential, 2)),
        ("admin", Binding(Kind.ADMIN, "", 0)),
        ("admin", Binding(Kind.ADMIN, identity.binding.credential, 1)),
    ):
        token, _ = await tenant.house.tokens.issue(subject, binding, Scopes())
        with pytest.raises(Unauthorized):
            await ask(tenant, bearer(token))


@pytest.mark.parametrize("authorization", [None, *REFUSED.values()])
async def test_with_dev_everybody_is_the_developer(tmp_path: Path, authorization: str | None) -> None:
    async with opened_house(tmp_path, dev=True) as house:
        caller = await house.authenticator.caller(authorization, ADDRESS)
        assert caller == Caller(Account(Kind.DEVELOPER, "developer"), f"developer@{ADDRESS}", shared=True)
        assert (await house.authenticator.identity(authorization)).account.kind is Kind.DEVELOPER
        assert (await house.authenticator.account("robot$a", "stale")).kind is Kind.DEVELOPER


async def test_a_token_drawn_with_dev_opens_nothing_without_it(tmp_path: Path) -> None:
    async with opened_house(tmp_path, dev=True) as house:
        token = await house.draw_token(None, "", "a/api")
    async with opened_house(tmp_path) as house:
        with pytest.raises(Unauthorized):
            await house.authenticator.caller(bearer(token), ADDRESS)
