"""Every route as served × everybody who may come: who is let in, and that nobody else learns or changes anything.

Two tenants: ``alpha`` is what everybody comes for, ``beta`` is the other tenant's. A route without a line in PATHS, or
one with a body and without a line in BODIES, fails here.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from regserver.app import ROUTES
from regserver.model.access import Access
from support.pushing import Answer, digest_of, start_upload
from support.registry import ADMIN_TOKEN
from support.town import API_TOKENS, BODIES, BODILESS, PATHS, Comer, Town, dump, founded, send

# Per access, who gets what: 2 is any success. Whoever is not named in a line gets what stands at its end.
MATRIX: dict[Access, tuple[dict[str, int], int]] = {
    Access.OPEN: ({}, 2),
    Access.TOKEN: ({}, 2),  # refined below: a bearer token draws no other
    Access.LOGIN: ({"nobody": 401}, 2),
    Access.CATALOG: ({"nobody": 401}, 2),
    Access.PULL: (
        dict.fromkeys(("reader", "reader's token", "owner", "administrator", "administrator's token"), 2),
        401,
    ),
    Access.PUSH: (dict.fromkeys(("owner", "administrator", "administrator's token"), 2), 401),
    Access.DELETE: (dict.fromkeys(("owner", "administrator", "administrator's token"), 2), 401),
    **{
        access: ({"nobody": 401, "administrator": 2, "administrator's token": 2, **more}, 403)
        for access, more in {
            Access.API_LIST: dict.fromkeys(API_TOKENS, 2),
            Access.API_READ: {"read token": 2, "registry token": 2, "other registry's token": 404},
            Access.API_SECRET: {"registry token": 2, "other registry's token": 404},
            Access.API_WRITE: {"registry token": 2, "other registry's token": 404},
            Access.API_ADMIN: {},
        }.items()
    },
}
DEAD = {"made-up password", "made-up token", "rotated password", "rotated token", "expired robot", "expired token"}
STRANGERS = ["nobody", *sorted(DEAD), "other tenant", "other tenant's token", "other registry's token"]
STRANGERS += ["robot of other images", "other images' token"]
INSIDERS = ["reader", "reader's token", "owner", "read token", "registry token"]
INSIDERS += ["administrator", "administrator's token"]
# A reader may ask for the state of an upload, but only of its own, and it can have none.
UPLOAD_OF_ANOTHER = {("GET", "/v2/{name}/blobs/uploads/{upload}"), ("HEAD", "/v2/{name}/blobs/uploads/{upload}")}


def pattern(path: str) -> str:
    """The path of a row as the router shows it: without regular expressions."""
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", path)


def demanded(method: str, path: str) -> Access:
    """What a route should demand, said without looking at the tables: they are what is tested."""
    if method == "OPTIONS":
        return Access.OPEN
    if path in SPECIAL:
        return SPECIAL[path]
    if path.startswith(("/v1/tokens", "/v1/scrub")) or (method, path) == ("POST", "/v1/registries"):
        return Access.API_ADMIN
    if path.startswith("/v1/"):
        if path in ("/v1/registries", "/v1/audit", "/v1/events"):
            return Access.API_LIST
        if path.endswith("credentials") or (method == "POST" and "/robots" in path):
            return Access.API_SECRET
        return Access.API_READ if method in ("GET", "HEAD") or path.endswith("/dry-run") else Access.API_WRITE
    if method in ("GET", "HEAD"):
        return Access.PULL
    return Access.DELETE if method == "DELETE" and "/uploads/" not in path else Access.PUSH


SPECIAL = {
    "/healthz": Access.OPEN,
    "/readyz": Access.OPEN,
    "/metrics": Access.API_READ,
    "/token": Access.TOKEN,
    "/v1/openapi.json": Access.OPEN,
    "/v1/docs": Access.OPEN,
    "/v2/": Access.LOGIN,
    "/v2/_catalog": Access.CATALOG,
}


DOORS = ("/", "/console{rest}")  # of the console, whose pages have a matrix of their own (test_console.py)


def served(town: Town) -> dict[tuple[str, str], Access]:
    """Every method of every path that the router knows, with what it should demand."""
    router = town.nobody.client.app.router  # type: ignore[union-attr]
    routes = [(route.method, route.resource.canonical) for route in router.routes() if route.resource]
    return {route: demanded(*route) for route in routes if route[1] not in DOORS}


def expected(route: tuple[str, str], access: Access, comer: Comer) -> int:
    if access is Access.OPEN:
        return 2
    if access is Access.TOKEN:
        if route[0] == "POST":
            return 2 if comer.login and comer.name not in DEAD else 401
        return 401 if comer.is_bearer or comer.name in DEAD else 2
    if comer.name in DEAD or (comer.name in API_TOKENS and not access.value.startswith("api")):
        return 401
    if comer.name.startswith("reader") and route in UPLOAD_OF_ANOTHER:
        return 404
    if route[1] == "/metrics" and "registry" in comer.name:  # it is about no registry
        return 403
    named, others = MATRIX[access]
    return named.get(comer.name, others)


def seen(answer: Answer, words: Mapping[str, str]) -> tuple[int, str, str]:
    """All that an answer tells but its id, its date and what the caller itself had asked for."""
    headers = "\n".join(
        f"{name}: {value}" for name, value in answer.headers.items() if name.lower() not in ("x-request-id", "date")
    )
    body = answer.body.decode()
    if answer.headers.get("Content-Type") == "application/json" and '"request_id"' in body:
        content = json.loads(body)
        content.get("error", {}).pop("request_id", None)
        body = json.dumps(content)
    for word in words.values():
        headers, body = headers.replace(word, "…"), body.replace(word, "…")
    return answer.status, headers, body


def matches(status: int, wanted: int) -> bool:
    return 200 <= status < 300 if wanted == 2 else status == wanted


def test_the_tables_demand_what_they_should() -> None:
    for row in ROUTES:
        assert row.access is demanded(row.method, pattern(row.path)), f"{row.method} {row.path}"


async def test_every_route_that_is_served_has_its_line_here(root: Path) -> None:
    async with founded(root) as town:
        routes = served(town)
        rows = {(row.method, pattern(row.path)) for row in ROUTES}
        implied = {("HEAD", path) for method, path in rows if method == "GET"} | {("OPTIONS", path) for _, path in rows}
        assert set(routes) == rows | implied
        assert {path for _, path in routes} == set(PATHS)
        assert {route for route in routes if route[0] not in BODILESS} == set(BODIES)
        assert set(MATRIX) == set(Access)
        assert set(town.comers) == {*STRANGERS, *INSIDERS}


@pytest.mark.parametrize("name", STRANGERS)
async def test_a_stranger_learns_and_changes_nothing(root: Path, name: str) -> None:
    async with founded(root) as town:
        comer = town.comers[name]
        admin = town.come("administrator")
        there = {**town.words, "upload": (await start_upload(admin, "alpha/api")).rpartition("/")[2]}
        nowhere = {**there, "registry": "nowhere", "id": there["id"][:-4] + "0000", "upload": "0" * 32}
        nowhere |= {"layer": digest_of(b"nothing"), "job": "gc_" + "0" * 26, "token": "tok_" + "0" * 26}
        nowhere |= {"robot": "rob_" + "0" * 26}
        before = await dump(town)
        wrong = []
        for route, access in served(town).items():
            answer = await send(town, comer, route, there)
            wanted = expected(route, access, comer)
            if not matches(answer.status, wanted):
                wrong.append(f"{route}: {answer.status} instead of {wanted}")
            told = answer.body + str(answer.headers).encode()
            wrong += [f"{route} tells {secret!r}" for secret in town.secrets if secret in told]
            if not access.value.startswith("open") and route[1] != "/token":
                missing = await send(town, comer, route, nowhere)
                if seen(missing, nowhere) != seen(answer, there):
                    wrong.append(f"{route}: {seen(answer, there)} there, {seen(missing, nowhere)} elsewhere")
        assert wrong == []
        assert await dump(town) == before


def rank(route: tuple[str, str]) -> tuple[int, bool, bool, int]:
    """Reading first, removing last, and the registry itself at the very end."""
    order = ["GET", "HEAD", "OPTIONS", "POST", "PATCH", "PUT", "DELETE"]
    return order.index(route[0]), route[1].startswith("/v1"), route[1].endswith("{registry_id}"), -len(route[1])


@pytest.mark.parametrize("name", INSIDERS)
async def test_an_insider_is_let_in_where_it_should_be(root: Path, name: str) -> None:
    async with founded(root) as town:
        comer = town.comers[name]
        uploader = town.come(name if not name.startswith("re") else "administrator")  # who may not push
        wrong = []
        for route, access in sorted(served(town).items(), key=lambda item: rank(item[0])):
            words = dict(town.words)
            if "{upload}" in route[1]:
                words["upload"] = (await start_upload(uploader, "alpha/api")).rpartition("/")[2]
            answer = await send(town, comer, route, words)
            wanted = expected(route, access, comer)
            if not matches(answer.status, wanted):
                wrong.append(f"{route}: {answer.status} instead of {wanted}, {answer.body[:200]!r}")
            if not name.startswith("administrator"):
                told = answer.body + str(answer.headers).encode()
                secrets = [
                    ADMIN_TOKEN.encode(),
                    *([town.secrets[5]] if name not in ("owner", "registry token") else []),
                ]
                wrong += [f"{route} tells a password" for secret in secrets if secret in told]
        assert wrong == []
