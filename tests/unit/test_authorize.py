"""May they: the decision over live rows, for every account and every form of credentials."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from regserver.errors import ErrorCode, RegistryError, Unauthorized
from regserver.model.access import Access, Account, Action, Caller, Kind
from regserver.model.names import RepositoryName
from support.identities import ALL, PULL, PUSH, House, opened_house, robot_account, scopes_of

PRIVATE, PUBLIC, MISSING = map(RepositoryName.parse, ("private/api", "public/api", "missing/api"))
REPOSITORY_ACCESSES = (Access.PULL, Access.PUSH, Access.DELETE)
NOBODY = Caller(Account(Kind.ANONYMOUS, ""), "anonymous@x", shared=True)
ADMIN = Caller(Account(Kind.ADMIN, "admin"), "admin@x", shared=True)


@dataclass
class Town:
    house: House
    private: str
    public: str

    def member(self, *actions: Action) -> Caller:
        return Caller(robot_account(self.private, frozenset(actions) or ALL, "robot$private"), "x", shared=True)


@pytest_asyncio.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with opened_house(tmp_path) as house:
        yield Town(house, await house.open_registry("private"), await house.open_registry("public", public=True))


def narrowed(caller: Caller, *scopes: str) -> Caller:
    return replace(caller, scopes=scopes_of(*scopes).repositories, catalog=False, shared=False)


async def allowed(town: Town, caller: Caller, name: RepositoryName) -> set[Access]:
    found = set()
    for access in REPOSITORY_ACCESSES:
        try:
            target = await town.house.authorizer.repository(caller, access, name)
        except Unauthorized:
            continue
        assert target.name == name
        assert access.actions <= target.rights
        found.add(access)
    return found


EVERY = set(REPOSITORY_ACCESSES)


async def test_a_member_may_do_everything_in_its_registry_and_pull_what_is_public(town: Town) -> None:
    assert await allowed(town, town.member(), PRIVATE) == EVERY
    assert await allowed(town, town.member(), PUBLIC) == {Access.PULL}
    assert await allowed(town, town.member(), MISSING) == set()


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([Action.PULL], {Access.PULL}),
        ([Action.PULL, Action.PUSH], {Access.PULL, Access.PUSH}),
        ([Action.PUSH], set()),
        ([Action.DELETE], {Access.DELETE}),
    ],
)
async def test_a_member_may_do_what_its_row_lists(town: Town, actions: list[Action], expected: set[Access]) -> None:
    assert await allowed(town, town.member(*actions), PRIVATE) == expected


async def test_nobody_may_pull_what_is_public(town: Town) -> None:
    assert await allowed(town, NOBODY, PUBLIC) == {Access.PULL}
    assert await allowed(town, narrowed(NOBODY, "public/api:pull"), PUBLIC) == {Access.PULL}
    assert await allowed(town, narrowed(NOBODY, "public/api"), PUBLIC) == {Access.PULL}
    for name in (PRIVATE, MISSING):
        assert await allowed(town, NOBODY, name) == set()
        assert await allowed(town, narrowed(NOBODY, str(name)), name) == set()


async def test_the_administrator_may_do_everything(town: Town) -> None:
    for name in (PRIVATE, PUBLIC):
        assert await allowed(town, ADMIN, name) == EVERY


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("private/api", EVERY),
        ("private/api:pull", {Access.PULL}),
        ("private/api:pull,push", {Access.PULL, Access.PUSH}),
        ("private/api:delete", {Access.DELETE}),
        ("private/api:push", set()),
        ("private/other", set()),
        ("public/api", set()),
    ],
)
async def test_a_token_narrows_whoever_holds_it(town: Town, scope: str, expected: set[Access]) -> None:
    for caller in (town.member(), ADMIN):
        assert await allowed(town, narrowed(caller, scope), PRIVATE) == expected


async def test_a_token_grants_nothing_that_its_account_has_lost(town: Town) -> None:
    reader = narrowed(town.member(Action.PULL), "private/api")
    assert await allowed(town, reader, PRIVATE) == {Access.PULL}
    await town.house.core.db.write(lambda tx: tx.execute("UPDATE registries SET public = 0"))
    assert await allowed(town, narrowed(NOBODY, "public/api"), PUBLIC) == set()


async def test_rights_are_what_account_and_token_both_have(town: Town) -> None:
    decide = town.house.authorizer.repository
    assert (await decide(town.member(), Access.PULL, PRIVATE)).rights == ALL
    assert (await decide(narrowed(town.member(), "private/api:pull,push"), Access.PULL, PRIVATE)).rights == PUSH
    assert (await decide(narrowed(town.member(Action.PULL), "private/api"), Access.PULL, PRIVATE)).rights == PULL


async def test_a_target_is_pinned_to_the_registry_that_was_judged(town: Town) -> None:
    target = await town.house.authorizer.repository(town.member(), Access.PULL, PRIVATE)
    assert target.registry_id == town.private


@pytest.mark.parametrize(
    ("access", "scope"), [(Access.PULL, "pull"), (Access.PUSH, "pull,push"), (Access.DELETE, "delete")]
)
async def test_what_is_there_and_what_is_not_are_refused_alike(town: Town, access: Access, scope: str) -> None:
    strangers = {
        None: NOBODY,
        "insufficient_scope": Caller(robot_account("reg_other"), "x", shared=True),
    }
    for error, caller in strangers.items():
        for name in (PRIVATE, MISSING):
            with pytest.raises(Unauthorized) as refused:
                await town.house.authorizer.repository(caller, access, name)
            assert (refused.value.scope, refused.value.error) == (f"repository:{name}:{scope}", error)
            assert (refused.value.detail, refused.value.message) == (None, "authentication required")


async def test_a_token_of_nobody_counts_as_credentials(town: Town) -> None:
    with pytest.raises(Unauthorized) as refused:
        await town.house.authorizer.repository(narrowed(NOBODY), Access.PULL, PRIVATE)
    assert refused.value.error == "insufficient_scope"


async def test_the_administrator_is_told_that_a_registry_is_missing(town: Town) -> None:
    for access in REPOSITORY_ACCESSES:
        if access is Access.PULL:  # told by what is asked for: a blob is unknown, referrers are none
            assert (await town.house.authorizer.repository(ADMIN, access, MISSING)).registry_id == ""
        else:
            with pytest.raises(RegistryError) as refused:
                await town.house.authorizer.repository(ADMIN, access, MISSING)
            assert refused.value.code is ErrorCode.NAME_UNKNOWN
        with pytest.raises(Unauthorized):
            await town.house.authorizer.repository(narrowed(ADMIN, "private/api"), access, MISSING)


@pytest.mark.parametrize("status", ["creating", "error", "deleting"])
async def test_a_registry_that_is_not_active_is_missing(town: Town, status: str) -> None:
    await town.house.core.db.write(lambda tx: tx.execute("UPDATE registries SET status = $1", status))
    assert await allowed(town, town.member(), PRIVATE) == set()
    assert await allowed(town, NOBODY, PUBLIC) == set()
    assert await town.house.authorizer.source(ADMIN, PRIVATE) is None


async def test_with_dev_a_push_makes_its_registry_and_a_pull_does_not(tmp_path: Path) -> None:
    async with opened_house(tmp_path, dev=True) as house:
        developer = await house.authenticator.caller(None, "x")
        assert (await house.authorizer.repository(developer, Access.PULL, MISSING)).registry_id == ""
        with pytest.raises(RegistryError) as refused:
            await house.authorizer.repository(developer, Access.DELETE, MISSING)
        assert refused.value.code is ErrorCode.NAME_UNKNOWN
        assert await house.core.db.fetch("SELECT count(*) FROM registries") == [(0,)]
        made = await house.authorizer.repository(developer, Access.PUSH, MISSING)
        assert made == await house.authorizer.repository(developer, Access.PULL, MISSING)
        assert (await house.robots.credentials(made.registry_id))[0] == "robot$missing"


async def test_without_dev_a_push_makes_no_registry(town: Town) -> None:
    with pytest.raises(RegistryError):
        await town.house.authorizer.repository(ADMIN, Access.PUSH, MISSING)
    assert await town.house.core.db.fetch("SELECT count(*) FROM registries") == [(2,)]


async def test_a_source_is_judged_by_the_account_and_never_by_its_token(town: Town) -> None:
    source = town.house.authorizer.source
    for caller in (town.member(), narrowed(town.member(), "elsewhere/api"), ADMIN):
        found = await source(caller, PRIVATE)
        assert found is not None
        assert found.registry_id == town.private
    for caller in (NOBODY, Caller(robot_account("reg_other"), "x", shared=True), town.member(Action.PUSH)):
        assert await source(caller, PRIVATE) is None
        opened = await source(caller, PUBLIC)
        assert opened is not None
        assert opened.rights == PULL
    assert await source(ADMIN, MISSING) is None


async def test_a_grant_is_what_is_asked_for_and_allowed(town: Town) -> None:
    grant = town.house.authorizer.grant
    assert await grant(town.member().account, PRIVATE, ALL) == ALL
    assert await grant(town.member().account, PRIVATE, PULL) == PULL
    assert await grant(town.member().account, PUBLIC, ALL) == PULL
    assert await grant(NOBODY.account, PRIVATE, ALL) == frozenset()
    assert await grant(town.member().account, MISSING, ALL) == frozenset()


@pytest.mark.parametrize("access", [Access.API_READ, Access.API_SECRET, Access.API_WRITE])
async def test_only_the_administrator_s_own_token_manages(town: Town, access: Access) -> None:
    general = town.house.authorizer.general
    general(ADMIN, access)
    for caller in (town.member(), narrowed(town.member(), "private/api"), narrowed(ADMIN), narrowed(NOBODY)):
        with pytest.raises(RegistryError) as refused:
            general(caller, access)
        assert refused.value.code is ErrorCode.DENIED
    with pytest.raises(Unauthorized) as unknown:
        general(NOBODY, access)
    assert (unknown.value.scope, unknown.value.error) == (None, None)


async def test_a_login_needs_any_credentials_at_all(town: Town) -> None:
    general = town.house.authorizer.general
    for caller in (ADMIN, town.member(), narrowed(NOBODY)):
        general(caller, Access.LOGIN)
    with pytest.raises(Unauthorized) as unknown:
        general(NOBODY, Access.LOGIN)
    assert (unknown.value.scope, unknown.value.error) == (None, None)


async def test_a_token_lists_repositories_only_with_the_scope_for_it(town: Town) -> None:
    general = town.house.authorizer.general
    for caller in (ADMIN, town.member(), replace(narrowed(NOBODY), catalog=True)):
        general(caller, Access.CATALOG)
    for caller, error in ((NOBODY, None), (narrowed(town.member()), "insufficient_scope")):
        with pytest.raises(Unauthorized) as refused:
            general(caller, Access.CATALOG)
        assert (refused.value.scope, refused.value.error) == ("registry:catalog:*", error)
