"""Two tenants, and everybody who may come to them: what tests of access, of every route as served, stand on.

``alpha`` is what everybody comes for, ``beta`` is the other tenant's.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import encode_basic_auth

from regserver.auth.keys import Keys
from regserver.auth.robots import Rights
from regserver.model.access import Permit
from regserver.model.audit import SERVER, AuditAction
from regserver.model.globs import Globs
from regserver.model.times import now_ms
from regserver.web.context import SERVICES, Services
from support.identities import PULL, add_robot
from support.pushing import IMAGE, Answer, Registry, digest_of, make_image, push_blob, push_manifest
from support.registry import ADMIN_TOKEN, served_app

CODENAME = "osprey"  # in a tag, a repository and a manifest that no request names
LAYER = b"the layer of alpha, for alpha only"
SENT = b"what a caller uploads"
API_TOKENS = ("read token", "registry token", "other registry's token")  # under /v1, and nothing elsewhere

ONE_TAG = "/v1/registries/{registry_id}/images/{image}/tags/{tag}"
ONE_ROBOT = "/v1/registries/{registry_id}/robots/{robot_id}"

# Every path that is served, as a request that is good for whoever may send it.
PATHS: dict[str, str] = {
    "/healthz": "/healthz",
    "/readyz": "/readyz",
    "/metrics": "/metrics",
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
    "/v1/docs": "/v1/docs",
    "/v1/registries": "/v1/registries",
    "/v1/registries/{registry_id}": "/v1/registries/{id}?force=true",
    "/v1/registries/{registry_id}/credentials": "/v1/registries/{id}/credentials",
    "/v1/registries/{registry_id}/rotate-credentials": "/v1/registries/{id}/rotate-credentials",
    "/v1/registries/{registry_id}/robots": "/v1/registries/{id}/robots",
    ONE_ROBOT: "/v1/registries/{id}/robots/{robot}",
    f"{ONE_ROBOT}/rotate": "/v1/registries/{id}/robots/{robot}/rotate",
    "/v1/registries/{registry_id}/images": "/v1/registries/{id}/images",
    "/v1/registries/{registry_id}/images/{image}": "/v1/registries/{id}/images/api",
    "/v1/registries/{registry_id}/images/{image}/tags": "/v1/registries/{id}/images/api/tags",
    ONE_TAG: "/v1/registries/{id}/images/api/tags/v2",
    f"{ONE_TAG}/history": "/v1/registries/{id}/images/api/tags/v2/history",
    f"{ONE_TAG}/restore": "/v1/registries/{id}/images/api/tags/lost/restore",
    "/v1/registries/{registry_id}/images/{image}/restore": "/v1/registries/{id}/images/api/restore",
    "/v1/registries/{registry_id}/retention/dry-run": "/v1/registries/{id}/retention/dry-run",
    "/v1/registries/{registry_id}/gc": "/v1/registries/{id}/gc",
    "/v1/registries/{registry_id}/gc/{job_id}": "/v1/registries/{id}/gc/{job}",
    "/v1/registries/{registry_id}/gc/{job_id}/cancel": "/v1/registries/{id}/gc/{job}/cancel",
    "/v1/registries/{registry_id}/gc/{job_id}/report": "/v1/registries/{id}/gc/{job}/report",
    "/v1/registries/{registry_id}/explain/{digest}": "/v1/registries/{id}/explain/{layer}",
    "/v1/audit": "/v1/audit",
    "/v1/events": "/v1/events",
    "/v1/scrub": "/v1/scrub",
    "/v1/scrub/damage": "/v1/scrub/damage",
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
    ("POST", "/v1/registries/{registry_id}/robots"): lambda town, comer: (b'{"name": "made"}', JSON),
    ("PATCH", ONE_ROBOT): lambda town, comer: (b'{"actions": ["pull"]}', JSON),
    ("POST", f"{ONE_ROBOT}/rotate"): lambda town, comer: (b"", {}),
    ("POST", "/v1/registries/{registry_id}/retention/dry-run"): lambda town, comer: (b"", {}),
    ("POST", "/v1/registries/{registry_id}/gc"): lambda town, comer: (b"", {}),
    ("POST", "/v1/registries/{registry_id}/gc/{job_id}/cancel"): lambda town, comer: (b"", {}),
    ("POST", f"{ONE_TAG}/restore"): lambda town, comer: (b"", {}),
    ("POST", "/v1/registries/{registry_id}/images/{image}/restore"): lambda town, comer: (b"", {}),
    ("POST", "/v1/tokens"): lambda town, comer: (b'{"name": "made", "scopes": ["admin"]}', JSON),
}


def form_of(comer: Comer) -> dict[str, str]:
    username, password = comer.login or ("", "")
    return {"grant_type": "password", "username": username, "password": password}


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
            "robot": (await services.robots.add(ids["alpha"], "spare", Rights(), SERVER))[0].id,
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

    async def added(name: str, rights: Rights) -> tuple[str, tuple[str, str]]:
        row, password = await services.robots.add(ids["alpha"], name, rights, SERVER)
        return row.id, (row.username, password)

    def basic(name: str, login: tuple[str, str]) -> Comer:
        return Comer(name, encode_basic_auth(*login), login)

    rotated, dead_token = await services.robots.credentials(ids["alpha"]), await token_of(old["alpha"])
    owner = (await services.robots.rotate(ids["alpha"]))[:2]
    other = await services.robots.credentials(ids["beta"])
    reader = await add_robot(services.core, keys, ids["alpha"], "robot$alpha+reader", PULL)
    elsewhere = await added("elsewhere", Rights(images=Globs(("elsewhere/**",))))
    expired = await added("expired", Rights())
    expired_token = await token_of(encode_basic_auth(*expired[1]))
    await services.robots.change(ids["alpha"], expired[0], {"expires_at": now_ms() - 1}, None, SERVER)
    permits = Permit(read=True), *(Permit(registries=frozenset({ids[name]})) for name in ("alpha", "beta"))
    api = [(await services.api_tokens.create("a", permit, None))[1] for permit in permits]
    made_up = dead_token.rpartition(".")[0] + "." + "A" * 342
    comers = [
        Comer("nobody", None),
        basic("made-up password", ("robot$alpha", "made-up")),
        Comer("made-up token", made_up),
        basic("rotated password", rotated),
        Comer("rotated token", dead_token),
        basic("expired robot", expired[1]),
        Comer("expired token", expired_token),
        basic("robot of other images", elsewhere[1]),
        Comer("other images' token", await token_of(encode_basic_auth(*elsewhere[1]))),
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
    """Every row but the clock's, the one that /readyz writes to see whether it can, and when somebody came."""
    db = town.services.core.db
    tables = [row[0] for row in await db.fetch("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    rows = {table: await db.fetch(f"SELECT * FROM {table}") for table in tables if table != "clock"}
    rows |= {table: [row[:-1] for row in rows[table]] for table in ("api_tokens", "credentials")}
    rows["audit"] = [row for row in rows["audit"] if AuditAction.LOGIN_FAILED not in row]
    return rows | {"installation": [row for row in rows["installation"] if row[0] != "ready_at"]}
