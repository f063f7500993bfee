"""GET and POST /token as the clients use them, and the challenge that sends them there."""

import base64
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import encode_basic_auth

from regserver.web.context import SERVICES, Services
from support.identities import parts_of
from support.pushing import Answer, Registry, push_blob, push_image, start_upload
from support.registry import ADMIN_TOKEN

FORM = "application/x-www-form-urlencoded"
PLAIN = {"Content-Type": FORM}


@dataclass
class Tenants:
    """Two registries, one of them public, as seen without any credentials."""

    nobody: Registry
    robot: str  # robot$alpha as Basic
    other: str  # robot$beta as Basic

    @property
    def services(self) -> Services:
        return self.nobody.client.app[SERVICES]  # type: ignore[index,no-any-return]

    async def ask(self, credentials: str | None, *scopes: str, **more: str) -> Answer:
        query = [*more.items(), *(("scope", scope) for scope in scopes)]
        return await self.nobody.seen_by(credentials).send("GET", "/token", query=query)

    async def post(self, fields: dict[str, str] | list[tuple[str, str]], **headers: str) -> Answer:
        content = urlencode(fields).encode()
        return await self.nobody.send("POST", "/token", data=content, headers={**PLAIN, **headers})

    async def bearer(self, credentials: str | None, *scopes: str) -> Registry:
        answer = await self.ask(credentials, *scopes)
        assert answer.status == 200, answer
        return self.nobody.seen_by(f"Bearer {answer.json['token']}")


@pytest.fixture
async def tenants(guarded: Registry) -> Tenants:
    robot = await guarded.make_robot("alpha")
    other = await guarded.make_robot("beta", public=True)
    return Tenants(guarded.seen_by(None), robot, other)


def granted(answer: Answer) -> dict[str, list[str]]:
    """What the answer's token holds."""
    assert answer.status == 200, answer
    return {entry["name"]: entry["actions"] for entry in parts_of(answer.json["token"])[1]["access"]}


def username_and_password(basic: str) -> tuple[str, str]:
    username, _, password = base64.b64decode(basic.removeprefix("Basic ")).decode().partition(":")
    return username, password


async def test_the_answer_has_what_clients_rely_on_and_not_what_harms_them(tenants: Tenants) -> None:
    answer = await tenants.ask(tenants.robot, "repository:alpha/api:pull,push", service="ignored", account="ignored")
    assert set(answer.json) == {"token", "access_token", "expires_in"}
    assert answer.json["token"] == answer.json["access_token"]
    assert answer.json["expires_in"] == 300
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"].startswith("application/json")
    assert granted(answer) == {"alpha/api": ["pull", "push"]}


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ([], {}),
        (["repository:alpha/api:pull"], {"alpha/api": ["pull"]}),
        (["repository:alpha/api:push,pull"], {"alpha/api": ["pull", "push"]}),
        (["repository:alpha/api:*"], {"alpha/api": ["pull", "push", "delete"]}),
        (["repository(plugin):alpha/api:pull"], {"alpha/api": ["pull"]}),
        (["repository:alpha/api:pull", "repository:alpha/b/c:pull"], {"alpha/api": ["pull"], "alpha/b/c": ["pull"]}),
        (["repository:alpha/api:pull repository:alpha/web:push"], {"alpha/api": ["pull"], "alpha/web": ["push"]}),
        (["repository:alpha/api:pull", "repository:alpha/api:push"], {"alpha/api": ["pull", "push"]}),
        (["repository:alpha/api:pull,own"], {"alpha/api": ["pull"]}),
        (["repository:beta/api:pull,push"], {"beta/api": ["pull"]}),
        (["repository:nowhere/api:pull"], {}),
        (["repository:alpine:pull"], {}),
        (["repository:localhost:5000/alpha/api:pull"], {}),
        (["artifact:alpha/api:pull", "nonsense", "repository:ALPHA/api:pull"], {}),
        (["registry:catalog:*"], {"catalog": ["*"]}),
    ],
    ids=str,
)
async def test_a_grant_is_what_is_asked_for_and_allowed(
    tenants: Tenants, scopes: list[str], expected: dict[str, list[str]]
) -> None:
    assert granted(await tenants.ask(tenants.robot, *scopes)) == expected


async def test_nobody_gets_a_token_for_what_is_public(tenants: Tenants) -> None:
    answer = await tenants.ask(None, "repository:alpha/api:pull", "repository:beta/api:pull,push")
    assert granted(answer) == {"beta/api": ["pull"]}
    assert parts_of(answer.json["token"])[1]["sub"] == ""


async def test_the_administrator_gets_what_is_asked_for(tenants: Tenants) -> None:
    admin = encode_basic_auth("admin", ADMIN_TOKEN)
    answer = await tenants.ask(admin, "repository:alpha/api:pull,push,delete", "repository:nowhere/api:pull")
    assert granted(answer) == {"alpha/api": ["pull", "push", "delete"], "nowhere/api": ["pull"]}


def bad_credentials(tenants: Tenants) -> list[str]:
    return [
        encode_basic_auth("robot$alpha", "wrong"),
        encode_basic_auth("robot$nowhere", "wrong"),
        encode_basic_auth("admin", "wrong"),
        encode_basic_auth("", ""),
        encode_basic_auth("robot$alpha", username_and_password(tenants.other)[1]),
        "Basic !!!",
        "Basic",
        "Bearer x",
        f"Bearer {ADMIN_TOKEN}",
        "Digest x",
        "",
    ]


async def test_bad_credentials_are_refused_alike_and_never_become_nobody(tenants: Tenants) -> None:
    bodies = set()
    for credentials in bad_credentials(tenants):
        answer = await tenants.ask(credentials, "repository:beta/api:pull")
        assert answer.refusal == (401, "UNAUTHORIZED"), credentials
        assert len(answer.headers.getall("WWW-Authenticate")) == 1
        bodies.add(answer.body)
    assert len(bodies) == 1


async def test_two_sets_of_credentials_are_refused(tenants: Tenants) -> None:
    headers = [("Authorization", tenants.robot), ("Authorization", tenants.other)]
    for path in ("/token", "/v2/"):
        assert (await tenants.nobody.send("GET", path, headers=headers)).status == 400


async def test_a_scope_too_many_is_refused_and_two_hundred_fit(tenants: Tenants) -> None:
    scopes = [f"repository:alpha/i{number}:pull" for number in range(201)]
    answer = await tenants.ask(tenants.robot, " ".join(scopes))
    assert answer.status == 400
    widest = await tenants.bearer(tenants.robot, " ".join(scopes[:200]))
    assert (await widest.send("GET", "/v2/")).status == 200


async def test_a_name_that_is_longest_two_hundred_times_still_fits_a_header(tenants: Tenants) -> None:
    scopes = [f"repository:alpha/{'x' * 247}{number:02}:pull,push,delete" for number in range(32)]
    widest = await tenants.bearer(tenants.robot, *scopes)
    assert (await widest.send("GET", "/v2/")).status == 200


async def test_the_form_of_oauth_gives_a_token_with_its_scope(tenants: Tenants) -> None:
    username, password = username_and_password(tenants.robot)
    answer = await tenants.post(
        [
            ("grant_type", "password"),
            ("username", username),
            ("password", password),
            ("service", "ignored"),
            ("client_id", "containerd-client"),
            ("access_type", "offline"),
            ("scope", "repository:alpha/api:pull,push repository:beta/api:pull"),
            ("scope", "repository:alpha/web:pull"),
        ]
    )
    assert set(answer.json) == {"token", "access_token", "token_type", "expires_in", "scope"}
    assert answer.json["scope"] == ("repository:alpha/api:pull,push repository:beta/api:pull repository:alpha/web:pull")
    assert granted(answer) == {"alpha/api": ["pull", "push"], "beta/api": ["pull"], "alpha/web": ["pull"]}
    assert answer.headers["Cache-Control"] == "no-store"


async def test_an_empty_grant_of_the_form_is_no_error(tenants: Tenants) -> None:
    username, password = username_and_password(tenants.robot)
    fields = {"grant_type": "password", "username": username, "password": password}
    answer = await tenants.post({**fields, "scope": "repository:nowhere/api:pull"})
    assert (answer.status, answer.json["scope"]) == (200, "")


GOOD = {"grant_type": "password", "username": "admin", "password": ADMIN_TOKEN}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"password": "wrong"}, 401),
        ({"password": ""}, 401),
        ({"username": "robot$nowhere"}, 401),
        ({"username": "\0"}, 401),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 401),
        ({"grant_type": "refresh_token"}, 400),
        ({"grant_type": "authorization_code"}, 400),
        ({"grant_type": ""}, 400),
    ],
    ids=str,
)
async def test_the_form_is_judged_by_its_fields(tenants: Tenants, change: dict[str, str], status: int) -> None:
    answer = await tenants.post({**GOOD, **change})
    assert answer.status == status
    assert ADMIN_TOKEN.encode() not in answer.body


@pytest.mark.parametrize("field", ["grant_type", "username", "password"])
async def test_a_field_is_given_once(tenants: Tenants, field: str) -> None:
    assert (await tenants.post({key: value for key, value in GOOD.items() if key != field})).status == 400
    assert (await tenants.post([*GOOD.items(), (field, GOOD[field])])).status == 400


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", PLAIN, 400),
        (b"&&&", PLAIN, 400),
        (urlencode(GOOD).encode() + b"&client_id=%ff%fe", PLAIN, 400),
        (b"grant_type=\xff", PLAIN, 400),
        (urlencode(GOOD).encode() + b"&a=b" * 1500, PLAIN, 400),
        (b"a" * (16 * 1024 + 1), PLAIN, 413),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"x", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
        (urlencode(GOOD).encode(), {}, 415),
        (urlencode(GOOD).encode(), {**PLAIN, "Content-Encoding": "gzip"}, 415),
        (urlencode(GOOD).encode(), {"Content-Type": FORM + "; charset=utf-8"}, 200),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_body_that_is_no_form_is_refused(
    tenants: Tenants, content: bytes, headers: dict[str, str], status: int
) -> None:
    assert (await tenants.nobody.send("POST", "/token", data=content, headers=headers)).status == status


async def test_a_body_that_is_too_large_in_chunks_is_refused(tenants: Tenants) -> None:
    async def chunks() -> Any:
        for _ in range(5):
            yield b"a" * 4096

    assert (await tenants.nobody.send("POST", "/token", data=chunks(), headers=PLAIN)).status == 413


CHALLENGE = re.compile(
    r'Bearer realm="(?P<realm>http://127\.0\.0\.1:\d+/token)",service="(?P<service>127\.0\.0\.1:\d+)"'
    r'(?:,scope="(?P<scope>[^"]+)")?(?:,error="(?P<error>[a-z_]+)")?'
)


def challenge_of(answer: Answer) -> dict[str, str | None]:
    assert answer.status == 401, answer
    (header,) = answer.headers.getall("WWW-Authenticate")
    match = CHALLENGE.fullmatch(header)
    assert match is not None, header
    return match.groupdict()


async def test_a_login_without_credentials_is_challenged_even_where_all_is_public(tenants: Tenants) -> None:
    said = challenge_of(await tenants.nobody.send("GET", "/v2/"))
    assert (said["scope"], said["error"]) == (None, None)
    assert said["realm"] == f"http://{said['service']}/token"


async def test_any_good_credentials_are_a_login(tenants: Tenants) -> None:
    for registry in (
        tenants.nobody.seen_by(tenants.robot),
        tenants.nobody.seen_by(encode_basic_auth("admin", ADMIN_TOKEN)),
        await tenants.bearer(tenants.robot),
        await tenants.bearer(None),
    ):
        assert (await registry.send("GET", "/v2/")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/alpha/api/manifests/v1", "repository:alpha/api:pull"),
        ("HEAD", "/v2/alpha/api/manifests/v1", "repository:alpha/api:pull"),
        ("POST", "/v2/alpha/api/blobs/uploads/", "repository:alpha/api:pull,push"),
        ("PUT", "/v2/alpha/api/manifests/v1", "repository:alpha/api:pull,push"),
        ("DELETE", "/v2/alpha/api/manifests/v1", "repository:alpha/api:delete"),
        ("GET", "/v2/alpine/tags/list", "repository:library/alpine:pull"),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
    ],
)
async def test_a_challenge_names_what_is_missing_and_why(tenants: Tenants, method: str, path: str, scope: str) -> None:
    narrow = await tenants.bearer(tenants.robot)
    for registry, error in (
        (tenants.nobody, None),
        (tenants.nobody.seen_by("Bearer stale"), "invalid_token"),
        (narrow, "insufficient_scope"),
    ):
        said = challenge_of(await registry.send(method, path))
        assert (said["scope"], said["error"]) == (scope, error)


async def test_a_bad_host_is_refused_instead_of_repeated(tenants: Tenants) -> None:
    for path in ("/v2/", "/v2/alpha/api/tags/list", "/token"):
        headers = {"Host": 'evil", realm="x', "Authorization": "Bearer x"}
        answer = await tenants.nobody.send("GET", path, headers=headers)
        assert answer.status == 400
        assert "WWW-Authenticate" not in answer.headers


async def test_a_push_and_a_pull_go_by_tokens_as_docker_draws_them(tenants: Tenants) -> None:
    pushing = await tenants.bearer(tenants.robot, "repository:alpha/api:pull,push")
    image = await push_image(pushing, "alpha/api", "v1")
    pulling = await tenants.bearer(tenants.robot, "repository:alpha/api:pull")
    assert (await pulling.send("GET", "/v2/alpha/api/manifests/v1")).body == image.content
    refused = await pulling.send("POST", "/v2/alpha/api/blobs/uploads/")
    assert challenge_of(refused)["error"] == "insufficient_scope"
    for other in (await tenants.bearer(tenants.other, "repository:alpha/api:pull"), tenants.nobody):
        assert challenge_of(await other.send("GET", "/v2/alpha/api/manifests/v1"))["scope"] == (
            "repository:alpha/api:pull"
        )


async def test_what_is_public_is_pulled_without_any_token(tenants: Tenants) -> None:
    image = await push_image(tenants.nobody.seen_by(tenants.other), "beta/api", "v1")
    assert (await tenants.nobody.send("GET", "/v2/beta/api/manifests/v1")).body == image.content
    layer = image.document["layers"][0]["digest"]
    assert (await tenants.nobody.send("GET", f"/v2/beta/api/blobs/{layer}")).status == 200
    assert challenge_of(await tenants.nobody.send("PUT", "/v2/beta/api/manifests/v2"))["error"] is None


async def test_cve_2026_27771_bytes_of_a_registry_that_turned_private_are_not_served(tenants: Tenants) -> None:
    image = await push_image(tenants.nobody.seen_by(tenants.other), "beta/api", "v1")
    layer = image.document["layers"][0]["digest"]
    anonymous = await tenants.bearer(None, "repository:beta/api:pull")
    paths = [f"/v2/beta/api/blobs/{layer}", "/v2/beta/api/manifests/v1", f"/v2/beta/api/manifests/{image.digest}"]
    for path in paths:
        assert (await anonymous.send("GET", path)).status == 200
    (row,) = await tenants.services.core.db.fetch("SELECT id FROM registries WHERE name = 'beta'")
    admin = tenants.nobody.seen_by(f"Bearer {ADMIN_TOKEN}")
    changed = await admin.send(
        "PATCH", f"/v1/registries/{row[0]}", data=b'{"public": false}', headers={"Content-Type": "application/json"}
    )
    assert changed.status == 200, changed
    for path in paths:
        for registry in (anonymous, tenants.nobody):
            assert (await registry.send("GET", path)).status == 401
            assert (await registry.send("HEAD", path)).status == 401


async def test_a_rotation_over_v1_cuts_password_and_tokens_at_once(tenants: Tenants) -> None:
    old = tenants.nobody.seen_by(tenants.robot)
    token = await tenants.bearer(tenants.robot, "repository:alpha/api:pull,push")
    location = await start_upload(token, "alpha/api")
    (row,) = await tenants.services.core.db.fetch("SELECT id FROM registries WHERE name = 'alpha'")
    admin = tenants.nobody.seen_by(f"Bearer {ADMIN_TOKEN}")
    rotated = await admin.send("POST", f"/v1/registries/{row[0]}/rotate-credentials")
    assert rotated.status in {200, 201}, rotated
    for registry in (old, token):
        assert challenge_of(await registry.send("GET", "/v2/"))["error"] == "invalid_token"
        assert (await registry.send("PATCH", location, data=b"late")).status == 401
    assert (await tenants.ask(tenants.robot)).status == 401
    given = rotated.json["data"]
    new = tenants.nobody.seen_by(encode_basic_auth(given["username"], given["password"]))
    await push_blob(new, "alpha/api")


async def test_with_dev_wrong_credentials_get_a_token_that_opens_everything(registry: Registry) -> None:
    stale = registry.seen_by(encode_basic_auth("robot$gone", "stale"))
    by_get = await stale.send("GET", "/token", query={"scope": "repository:any/api:pull,push"})
    form = {"grant_type": "password", "username": "x", "password": "x", "scope": "repository:any/api:pull,push"}
    by_post = await registry.send("POST", "/token", data=urlencode(form).encode(), headers=PLAIN)
    refresh = {"grant_type": "refresh_token", "refresh_token": "stale"}
    refreshed = await registry.send("POST", "/token", data=urlencode(refresh).encode(), headers=PLAIN)
    assert granted(by_get) == granted(by_post) == {"any/api": ["pull", "push"]}
    assert refreshed.status == 200
    await push_blob(registry.seen_by(f"Bearer {by_get.json['token']}"), "any/api")


async def test_with_dev_no_client_is_challenged(registry: Registry) -> None:
    for credentials in (None, "Bearer stale", "Basic !!!"):
        assert (await registry.seen_by(credentials).send("GET", "/v2/")).status == 200
