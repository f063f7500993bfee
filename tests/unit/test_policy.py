"""The table of who may do what, cell by cell: written out here a second time, on purpose."""

import itertools

import pytest

from regserver.auth import policy
from regserver.auth.policy import Facts, Means, Standing, Verdict, Visibility
from regserver.model.access import Access, Account, Action, Kind
from regserver.model.globs import Globs
from regserver.model.names import RepositoryName

PRIVATE, PUBLIC = Facts("reg_a", public=False), Facts("reg_a", public=True)
SUBSETS = [frozenset(some) for size in range(4) for some in itertools.combinations(Action, size)]
ALL = frozenset(Action)
PULL = frozenset({Action.PULL})
NONE: frozenset[Action] = frozenset()


@pytest.mark.parametrize("kind", [Kind.ADMIN, Kind.DEVELOPER])
@pytest.mark.parametrize("facts", [None, PRIVATE, PUBLIC])
def test_an_operator_may_do_everything_everywhere(kind: Kind, facts: Facts | None) -> None:
    assert policy.grants(Account(kind, "x"), facts, "api") == ALL


@pytest.mark.parametrize(("facts", "expected"), [(None, NONE), (PRIVATE, NONE), (PUBLIC, PULL)])
@pytest.mark.parametrize(
    "account",
    [
        Account(Kind.ANONYMOUS, ""),
        Account(Kind.ANONYMOUS, "", "reg_a", ALL),
        Account(Kind.ROBOT, "robot$b", "reg_b", ALL),
        Account(Kind.ROBOT, "robot$a", "reg_earlier", ALL),
        Account(Kind.ROBOT, "robot$a", None, ALL),
    ],
    ids=lambda account: f"{account.kind.value} of {account.registry_id}, {len(account.actions)} actions",
)
def test_a_stranger_may_only_pull_what_is_public(
    account: Account, facts: Facts | None, expected: frozenset[Action]
) -> None:
    assert policy.grants(account, facts, "api") == expected


@pytest.mark.parametrize("actions", SUBSETS, ids=lambda actions: "+".join(sorted(actions)) or "none")
def test_a_robot_may_do_what_its_row_lists_and_pull_what_is_public(actions: frozenset[Action]) -> None:
    robot = Account(Kind.ROBOT, "robot$a", "reg_a", actions)
    assert policy.grants(robot, PRIVATE, "api") == actions
    assert policy.grants(robot, PUBLIC, "api") == actions | PULL


@pytest.mark.parametrize("facts", [PRIVATE, PUBLIC], ids=["private", "public"])
def test_a_robot_of_some_images_is_a_stranger_to_the_others(facts: Facts) -> None:
    robot = Account(Kind.ROBOT, "robot$a", "reg_a", ALL, Globs(("team/*",)))
    assert policy.grants(robot, facts, "team/api") == ALL
    for other in ("team", "api", "team/api/debug", "teams/api"):
        assert policy.grants(robot, facts, other) == (PULL if facts.public else NONE)


def test_the_tables_have_every_cell() -> None:
    assert set(policy.GRANTS) == set(itertools.product(Standing, Visibility))
    assert set(policy.GENERAL) == {access for access in Access if not access.actions}
    assert all(set(row) == set(Means) for row in policy.GENERAL.values())


GENERAL = """
             none      token  robot  operator  api_admin  api_read  api_own  api_other  api_nowhere
open         allow     allow  allow  allow     allow      allow     allow    allow      allow
token        allow     allow  allow  allow     allow      allow     allow    allow      allow
login        identify  allow  allow  allow     deny       deny      deny     deny       deny
catalog      identify  allow  allow  allow     deny       deny      deny     deny       deny
api_list     identify  deny   deny   allow     allow      allow     allow    hide       allow
api_read     identify  deny   deny   allow     allow      allow     allow    hide       deny
api_secret   identify  deny   deny   allow     allow      deny      allow    hide       deny
api_write    identify  deny   deny   allow     allow      deny      allow    hide       deny
api_admin    identify  deny   deny   allow     allow      deny      deny     hide       deny
"""
CELLS = [
    (Access(name), Means(means), Verdict(verdict))
    for name, *verdicts in map(str.split, GENERAL.strip().splitlines()[1:])
    for means, verdict in zip(GENERAL.strip().splitlines()[0].split(), verdicts, strict=True)
]


@pytest.mark.parametrize(("access", "means", "verdict"), CELLS, ids=str)
def test_a_route_without_a_repository_is_open_to_whom_it_should_be(
    access: Access, means: Means, verdict: Verdict
) -> None:
    assert policy.GENERAL[access][means] is verdict


@pytest.mark.parametrize(
    ("access", "scope"),
    [
        (Access.PULL, "repository:a/b:pull"),
        (Access.PUSH, "repository:a/b:pull,push"),
        (Access.DELETE, "repository:a/b:delete"),
        (Access.CATALOG, "registry:catalog:*"),
        *((access, None) for access in Access if not access.actions and access is not Access.CATALOG),
    ],
)
def test_a_challenge_names_what_the_route_needs_in_a_fixed_order(access: Access, scope: str | None) -> None:
    assert policy.required_scope(access, RepositoryName.parse("a/b")) == scope


def test_the_scope_of_a_short_name_is_that_of_the_default_registry() -> None:
    assert policy.required_scope(Access.PULL, RepositoryName.parse("alpine")) == "repository:library/alpine:pull"
