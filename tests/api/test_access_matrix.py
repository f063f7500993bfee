"""Every route as served × everybody who may come: who is let in, and that nobody else learns or changes anything.

Two tenants: ``alpha`` is what everybody comes for, ``beta`` is the other tenant's. A route without a line in PATHS, or
one with a body and without a line in BODIES, fails here.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import encode_basic_auth

from regserver.app import ROUTES
from regserver.auth.keys import Keys
from regserver.model.access import Access, Permit
from regserver.model.audit import AuditAction
from regserver.web.context import SERVICES, Services
from support.identities import PULL, add_robot
from support.pushing import IMAGE, Answer, Registry, digest_of, make_image, push_blob, push_manifest, start_upload
from support.registry import ADMIN_TOKEN, served_app

CODENAME = "osprey"  # in a tag, a repository and a manifest that no request names
LAYER = b"the layer of alpha, for alpha only"
SENT = b"what a caller uploads"

ONE_TAG = "/v1/registries/{registry_id}/images/{image}/tags/{tag}"

# Every path that is served, as a request that is good for whoever may send it.
PATHS: dict[str, str] = {
    "/healthz": "/healthz",
    "/readyz": "/readyz",
    "/token": "/token?scope=repository:{registry}/api:pull",
    "/v2/": "/v2/",
    "/v2/_catalog": "/v2/_catalog",
    "/v2/{name}/blobs/{digest}": "/v2/{registry}/api/blobs/{layer}",
    "/v2/{name}/blobs/uploads/": "/v2/{registry}/api/blobs/uploads/",
    "/v2/{name}/blobs/uploads/{upload}": "/v2/{registry}/api/blobs/uploads/{upload}?digest={sent}",
    "/v2/{name}/manifests/{reference}": "/v2/{registry}/api/manifests/v1",
    "/v2/{name}/tags/list": "/v2/{registry}/api/tags/list",
    "/v2/{name}/referrers/{digest}": "/v2/{registry}/api/referrers/{layer}",
    "/v1/openapi.json": "/v1/openapi.json",
    "/v1/registries": "/v1/registries",
    "/v1/registries/{registry_id}": "/v1/registries/{id}?force=true",
    "/v1/registries/{registry_id}/credentials": "/v1/registries/{id}/credentials",
    "/v1/registries/{registry_id}/rotate-credentials": "/v1/registries/{id}/rotate-credentials",
    "/v1/registries/{registry_id}/images": "/v1/registries/{id}/images",
    "/v1/registries/{registry_id}/images/{image}": "/v1/registries/{id}/images/api",
    "/v1/registries/{registry_id}/images/{image}/tags": "/v1/registries/{id}/images/api/tags",
    ONE_TAG: "/v1/registries/{id}/images/api/tags/v2",
    f"{ONE_TAG}/history": "/v1/registries/{id}/images/api/tags/v2/history",
    f"{ONE_TAG}/restore": "/v1/registries/{id}/images/api/tags/lost/restore",
    "/v1/registries/{registry_id}/images/{image}/restore": "/v1/registries/{id}/images/api/restore",
    "/v1/registries/{registry_id}/gc": "/v1/registries/{id}/gc",
    "/v1/registries/{registry_id}/gc/{job_id}": "/v1/registries/{id}/gc/{job}",
    "/v1/registries/{registry_id}/gc/{job_id}/report": "/v1/registries/{id}/gc/{job}/report",
    "/v1/registries/{registry_id}/explain/{digest}": "/v1/registries/{id}/explain/{layer}",
    "/v1/tokens": "/v1/tokens",
    "/v1/tokens/{token_id}": "/v1/tokens/{token}",
}
BODILESS = {"GET", "HEAD", "OPTIONS", "DELETE"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Comer:
    """Somebody who comes with an Authorization header, or without. ``login``: what it would put into a form."""

    name: str
    credentials: str | None
    login: tuple[str, str] | None = None

    @property
    def is_bearer(self) -> bool:
        return (self.credentials or "").startswith("Bearer ")


@dataclass
class Town:
    nobody: Registry
    ids: dict[str, str]
    words: dict[str, str]  # what PATHS leaves open
    manifest: bytes
    secrets: list[bytes]
    comers: dict[str, Comer] = field(default_factory=dict)

    @property
    def services(self) -> Services:
        return self.nobody.client.app[SERVICES]  # type: ignore[index,no-any-return]

    def come(self, name: str) -> Registry:
        return self.nobody.seen_by(self.comers[name].credentials)


BODIES: dict[tuple[str, str], Callable[[Town, Comer], tuple[bytes, Mapping[str, str]]]] = {
    ("POST", "/token"): lambda town, comer: (urlencode(form_of(comer)).encode(), FORM),
    ("POST", "/v2/{name}/blobs/uploads/"): lambda town, comer: (b"", {}),
    ("PATCH", "/v2/{name}/blobs/uploads/{upload}"): lambda town, comer: (SENT, {}),
    ("PUT", "/v2/{name}/blobs/uploads/{upload}"): lambda town, comer: (SENT, {}),
    ("PUT", "/v2/{name}/manifests/{reference}"): lambda town, comer: (town.manifest, {"Content-Type": IMAGE}),
    ("POST", "/v1/registries"): lambda town, comer: (b'{"name": "made"}', JSON),
    ("PATCH", "/v1/registries/{registry_id}"): lambda town, comer: (b'{"quota": {"storage_gb": 1}}', JSON),
    ("POST", "/v1/registries/{registry_id}/rotate-credentials"): lambda town, comer: (b"", {}),
    ("POST", "/v1/registries/{registry_id}/gc"): lambda town, comer: (b"", {}),
    ("POST", f"{ONE_TAG}/restore"): lambda town, comer: (b"", {}),
    ("POST", "/v1/registries/{registry_id}/images/{image}/restore"): lambda town, comer: (b"", {}),
    ("POST", "/v1/tokens"): lambda town, comer: (b'{"name": "made", "scopes": ["admin"]}', JSON),
}

API_TOKENS = ("read token", "registry token", "other registry's token")  # under /v1, and nothing elsewhere
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
DEAD = {"made-up password", "made-up token", "rotated password", "rotated token"}
STRANGERS = ["nobody", *sorted(DEAD), "other tenant", "other tenant's token", "other registry's token"]
INSIDERS = ["reader", "reader's token", "owner", "read token", "registry token"]
INSIDERS += ["administrator", "administrator's token"]
# A reader may ask for the state of an upload, but only of its own, and it can have none.
UPLOAD_OF_ANOTHER = {("GET", "/v2/{name}/blobs/uploads/{upload}"), ("HEAD", "/v2/{name}/blobs/uploads/{upload}")}


def form_of(comer: Comer) -> dict[str, str]:
    username, password = comer.login or ("", "")
    return {"grant_type": "password", "username": username, "password": password}


def pattern(path: str) -> str:
    """The path of a row as the router shows it: without regular expressions."""
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", path)


def demanded(method: str, path: str) -> Access:
    """What a route should demand, said without looking at the tables: they are what is tested."""
    if method == "OPTIONS":
        return Access.OPEN
    if path in SPECIAL:
        return SPECIAL[path]
    if path.startswith("/v1/tokens") or (method, path) == ("POST", "/v1/registries"):
        return Access.API_ADMIN
    if path.startswith("/v1/"):
        if path == "/v1/registries":
            return Access.API_LIST
        if path.endswith("credentials"):
            return Access.API_SECRET
        return Access.API_READ if method in ("GET", "HEAD") else Access.API_WRITE
    if method in ("GET", "HEAD"):
        return Access.PULL
    return Access.DELETE if method == "DELETE" and "/uploads/" not in path else Access.PUSH


SPECIAL = {
    "/healthz": Access.OPEN,
    "/readyz": Access.OPEN,
    "/token": Access.TOKEN,
    "/v1/openapi.json": Access.OPEN,
    "/v2/": Access.LOGIN,
    "/v2/_catalog": Access.CATALOG,
}


def served(town: Town) -> dict[tuple[str, str], Access]:
    """Every method of every path that the router knows, with what it should demand."""
    router = town.nobody.client.app.router  # type: ignore[union-attr]
    routes = [(route.method, route.resource.canonical) for route in router.routes() if route.resource]
    return {route: demanded(*route) for route in routes}


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
    named, others = MATRIX[access]
    return named.get(comer.name, others)


@asynccontextmanager
async def founded(root: Path) -> AsyncIterator[Town]:
    """Both tenants, an image with three tags in alpha, which had two more, and everybody who will come."""
    async with served_app(root, failed_logins_per_minute=0) as client:  # who is refused everywhere is no guesser here
        nobody = Registry(client)
        old = {name: await nobody.make_robot(name) for name in ("alpha", "beta")}
        services: Services = client.app[SERVICES]  # type: ignore[index]
        rows = await services.core.db.fetch("SELECT name, id FROM registries")
        ids: dict[str, str] = {str(name): str(identity) for name, identity in rows}
        comers = await invite(nobody, ids, old)
        admin = nobody.seen_by(encode_basic_auth("admin", ADMIN_TOKEN))
        document = await make_image(admin, "alpha/api")
        images = [await push_manifest(admin, "alpha/api", document, tag) for tag in ("v1", "v2", "v3", "gone", "lost")]
        for tag in ("gone", "lost"):  # each of the two ways to undo finds a deletion of its own
            await admin.send("DELETE", f"/v2/alpha/api/manifests/{tag}")
        await push_manifest(admin, f"alpha/{CODENAME}", await make_image(admin, f"alpha/{CODENAME}"), CODENAME)
        words = {
            "registry": "alpha",
            "id": ids["alpha"],
            "layer": await push_blob(admin, "alpha/api", LAYER),
            "sent": digest_of(SENT),
            "job": await collected(admin, ids["alpha"]),
            "token": (await services.api_tokens.create("spare", Permit(admin=True), None))[0].id,
        }
        secrets = [
            LAYER,
            CODENAME.encode(),
            images[0].content,
            images[0].digest.encode(),
            ADMIN_TOKEN.encode(),
            (await services.robots.credentials(ids["alpha"]))[1].encode(),
            *(entry["digest"].encode() for entry in document["layers"]),
        ]
        yield Town(nobody, ids, words, images[0].content, secrets, comers)


async def invite(nobody: Registry, ids: Mapping[str, str], old: Mapping[str, str]) -> dict[str, Comer]:
    services: Services = nobody.client.app[SERVICES]  # type: ignore[index]
    keys = await Keys.load(services.settings.root, services.core.db)

    async def token_of(credentials: str) -> str:
        query = [("scope", "repository:alpha/api:*"), ("scope", "registry:catalog:*")]
        answer = await nobody.seen_by(credentials).send("GET", "/token", query=query)
        return f"Bearer {answer.json['token']}"

    def basic(name: str, login: tuple[str, str]) -> Comer:
        return Comer(name, encode_basic_auth(*login), login)

    rotated, dead_token = await services.robots.credentials(ids["alpha"]), await token_of(old["alpha"])
    owner = (await services.robots.rotate(ids["alpha"]))[:2]
    other = await services.robots.credentials(ids["beta"])
    reader = await add_robot(services.core, keys, ids["alpha"], "robot$alpha+reader", PULL)
    permits = Permit(read=True), *(Permit(registries=frozenset({ids[name]})) for name in ("alpha", "beta"))
    api = [(await services.api_tokens.create("a", permit, None))[1] for permit in permits]
    made_up = dead_token.rpartition(".")[0] + "." + "A" * 342
    comers = [
        Comer("nobody", None),
        basic("made-up password", ("robot$alpha", "made-up")),
        Comer("made-up token", made_up),
        basic("rotated password", rotated),
        Comer("rotated token", dead_token),
        basic("other tenant", other),
        Comer("other tenant's token", await token_of(encode_basic_auth(*other))),
        basic("reader", reader),
        Comer("reader's token", await token_of(encode_basic_auth(*reader))),
        basic("owner", owner),
        basic("administrator", ("admin", ADMIN_TOKEN)),
        Comer("administrator's token", f"Bearer {ADMIN_TOKEN}"),
        *(Comer(name, f"Bearer {token}") for name, token in zip(API_TOKENS, api, strict=True)),
    ]
    return {comer.name: comer for comer in comers}


async def collected(admin: Registry, registry_id: str) -> str:
    """The id of a collection that has ended."""
    job = (await admin.send("POST", f"/v1/registries/{registry_id}/gc")).json["data"]["job_id"]
    while (await admin.send("GET", f"/v1/registries/{registry_id}/gc/{job}")).json["data"]["status"] == "running":
        pass
    return str(job)


async def send(town: Town, comer: Comer, route: tuple[str, str], words: Mapping[str, str]) -> Answer:
    method, path = route
    data, headers = (None, {}) if method in BODILESS else BODIES[route](town, comer)
    registry = town.nobody.seen_by(comer.credentials)
    return await registry.send(method, PATHS[path].format(**words), data=data, headers=headers)


async def dump(town: Town) -> dict[str, list[Any]]:
    """Every row but the clock's, the one that /readyz writes to see whether it can, and when a token was used."""
    db = town.services.core.db
    tables = [row[0] for row in await db.fetch("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    rows = {table: await db.fetch(f"SELECT * FROM {table}") for table in tables if table != "clock"}
    rows["api_tokens"] = [row[:-1] for row in rows["api_tokens"]]
    rows["audit"] = [row for row in rows["audit"] if AuditAction.LOGIN_FAILED not in row]
    return rows | {"installation": [row for row in rows["installation"] if row[0] != "ready_at"]}


def seen(answer: Answer, words: Mapping[str, str]) -> tuple[int, str, str]:
    """All that an answer tells but its id, its date and what the caller itself had asked for."""
    headers = "\n".join(
        f"{name}: {value}" for name, value in answer.headers.items() if name.lower() not in ("x-request-id", "date")
    )
    body = answer.body.decode()
    if answer.headers.get("Content-Type") == "application/json" and '"request_id"' in body:
        content = json.loads(body)
        content["error"].pop("request_id")
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
