"""The console over plain requests: its door, its sessions, its forms, and whom it lets do what."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from regserver.auth.sessions import new_secret
from regserver.console.routes import PAGES
from regserver.console.serving import POLICY
from regserver.content import layer_files
from regserver.model.access import Permit
from regserver.model.ids import new_id
from regserver.storage.catalog import jobs
from support.browsing import FORM, Browsing, is_sent_to_the_door, signed_in
from support.environment import clean_environment
from support.managing import call, make_registry, services_of
from support.pushing import Registry, push_blob, push_image
from support.registry import ADMIN_TOKEN, served_app

# ---------------------------------------------------------------- the door


async def test_a_browser_finds_the_console_at_the_root_and_a_client_what_it_always_did(guarded: Registry) -> None:
    answer = await Browsing(guarded).get("/", Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert (answer.status, answer.headers["Location"]) == (303, "/console/")
    plain = await Browsing(guarded).get("/", Accept="*/*")
    assert (plain.status, plain.code) == (404, "NAME_UNKNOWN")


async def test_nobody_is_sent_to_the_door_and_back_to_where_they_wanted(guarded: Registry) -> None:
    wanted = f"/console/registries/{await make_registry(guarded, 'a')}/image?image=team%2Fapi"
    browser = Browsing(guarded)
    location = (await browser.get(wanted)).headers["Location"]
    assert location == f"/console/sign-in?next={quote(wanted, safe='')}"
    assert f'name="next" value="{wanted}"' in await browser.page(location)
    answer = await browser.post("/console/sign-in", {"token": ADMIN_TOKEN, "next": wanted})
    assert answer.headers["Location"] == wanted


@pytest.mark.parametrize(
    "elsewhere",
    ["https://example.com/", "//example.com", "/console/\\example.com", "/v1/docs", "/consolex", "javascript:1"],
)
async def test_the_door_leads_to_no_other_site(guarded: Registry, elsewhere: str) -> None:
    browser = Browsing(guarded)
    answer = await browser.post("/console/sign-in", {"token": ADMIN_TOKEN, "next": elsewhere})
    assert (answer.status, answer.headers["Location"]) == (303, "/console/")


@pytest.mark.parametrize("token", ["", "wrong", "x" * 600, "rsv_" + "0" * 38, "ä", "a b\n", "a.b.c"])
async def test_a_wrong_token_opens_nothing_and_is_not_shown_again(guarded: Registry, token: str) -> None:
    browser = Browsing(guarded)
    answer = await browser.sign_in(token)
    assert answer.status == 403
    assert not token or token not in answer.body.decode()
    assert is_sent_to_the_door(await browser.get("/console/"))


async def test_a_robot_and_a_docker_token_open_nothing(guarded: Registry) -> None:
    await make_registry(guarded, "a")
    registry_id = (await call(guarded, "GET", "/registries")).json["data"][0]["id"]
    password = (await call(guarded, "GET", f"/registries/{registry_id}/credentials")).json["data"]["password"]
    drawn = (await guarded.send("GET", "/token?service=x")).json["token"]
    for token in (password, drawn):
        assert (await Browsing(guarded).sign_in(token)).status == 403


async def test_guessing_at_the_door_is_limited_as_everywhere(root: Path) -> None:
    async with served_app(root, failed_logins_per_minute=3) as client:
        browser = Browsing(Registry(client))
        statuses = [(await browser.sign_in("wrong-token-of-somebody")).status for _ in range(5)]
    assert statuses == [403, 403, 403, 429, 429]


# ---------------------------------------------------------------- the cookie and its session


async def test_the_cookie_is_for_requests_of_this_site_alone_and_is_new_after_the_sign_in(guarded: Registry) -> None:
    browser = Browsing(guarded)
    await browser.get("/console/")
    before = browser.cookie
    await browser.sign_in()
    assert browser.cookie and browser.cookie != before
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(browser.set_cookie.split("; "))
    assert "Secure" not in browser.set_cookie
    assert browser.cookie.partition("=")[2] not in (await browser.get("/console/")).body.decode()


async def test_behind_tls_the_cookie_is_for_tls_alone(root: Path) -> None:
    async with served_app(root, public_url="https://registry.example.com") as client:
        browser = Browsing(Registry(client))
        await browser.sign_in()
        assert browser.set_cookie.startswith("__Host-regserver-console-443=")
        assert "Secure" in browser.set_cookie.split("; ")
        assert (await browser.get("/console/")).status == 200


async def test_the_catalog_keeps_no_cookie(guarded: Registry, root: Path) -> None:
    browser = await signed_in(guarded)
    secret = browser.cookie.partition("=")[2].encode()
    assert len(secret) == 43
    files = [file for file in root.rglob("*") if file.is_file()]
    assert files and not any(secret in file.read_bytes() for file in files)


async def test_a_session_ends_with_its_time(guarded: Registry) -> None:
    services, browser = services_of(guarded), await signed_in(guarded)
    services.sessions._clock = lambda: 2**50
    assert is_sent_to_the_door(await browser.get("/console/"))


async def test_a_session_ends_when_somebody_signs_out(guarded: Registry) -> None:
    browser = await signed_in(guarded)
    kept = browser.cookie
    assert is_sent_to_the_door(await browser.post("/console/sign-out"))
    assert browser.cookie == ""
    browser.cookie = kept
    assert is_sent_to_the_door(await browser.get("/console/"))


async def test_a_session_ends_with_the_token_that_opened_it(guarded: Registry) -> None:
    row, token = await services_of(guarded).api_tokens.create("console", Permit(read=True), None)
    browser = await signed_in(guarded, token)
    assert (await browser.get("/console/")).status == 200
    assert (await call(guarded, "DELETE", f"/tokens/{row.id}")).status == 204
    assert is_sent_to_the_door(await browser.get("/console/"))


async def test_a_session_lives_through_a_restart_but_not_through_another_administrator(root: Path) -> None:
    async with served_app(root) as client:
        browser = await signed_in(Registry(client))
        cookie = browser.cookie
    async with served_app(root) as client:
        browser = Browsing(Registry(client))
        name = (await browser.get("/console/")).headers["Set-Cookie"].partition("=")[0]  # another port, another name
        browser.cookie = f"{name}={cookie.partition('=')[2]}"
        assert (await browser.get("/console/")).status == 200
        services_of(Registry(client)).authenticator._admin_fingerprint = "of another token"
        assert is_sent_to_the_door(await browser.get("/console/"))


async def test_a_made_up_cookie_opens_nothing(guarded: Registry) -> None:
    browser = Browsing(guarded)
    name = (await browser.get("/console/")).headers["Set-Cookie"].partition("=")[0]
    for value in (new_secret(), "", "x" * 43, "ä" * 43, "%"):
        browser.cookie = f"{name}={value}"
        assert is_sent_to_the_door(await browser.get("/console/"))


async def test_with_dev_the_console_is_open(registry: Registry) -> None:
    browser = Browsing(registry)
    assert "dev, open" in await browser.page("/console/")
    assert (await browser.post("/console/registries", {"name": "made-here"})).status == 303
    assert "made-here" in await browser.page("/console/")
    assert (await browser.get("/console/sign-in")).headers["Location"] == "/console/"


async def test_with_dev_a_page_of_another_site_changes_nothing(registry: Registry) -> None:
    browser = Browsing(registry)
    form = urlencode({"name": "forged", "form_token": await browser.form_token()}).encode()
    browser.cookie = ""  # SameSite: another site's request comes without
    assert (await browser.send("POST", "/console/registries", form, FORM)).status == 403
    assert "forged" not in await browser.page("/console/")


# ---------------------------------------------------------------- forms


async def test_a_form_of_another_page_changes_nothing(guarded: Registry) -> None:
    browser = await signed_in(guarded)
    good, theirs = await browser.form_token(), await Browsing(guarded).form_token()
    for token, more in (
        (theirs, {}),
        ("", {}),
        ("ä", {}),
        (good, {"Origin": "https://example.com"}),
        (good, {"Origin": "null"}),
    ):
        form = urlencode({"name": "forged", "form_token": token}).encode()
        answer = await browser.send("POST", "/console/registries", form, {**FORM, **more})
        assert answer.status == 403
    without = await browser.send("POST", "/console/registries", b"name=forged", FORM)
    assert without.status == 403
    assert (await call(guarded, "GET", "/registries")).json["data"] == []


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/json"])
async def test_only_forms_are_taken(guarded: Registry, kind: str) -> None:
    browser = await signed_in(guarded)
    form = urlencode({"name": "a", "form_token": await browser.form_token()}).encode()
    assert (await browser.send("POST", "/console/registries", form, {"Content-Type": kind})).status == 415


async def test_a_form_of_any_size_and_shape_is_refused_in_words(guarded: Registry) -> None:
    browser = await signed_in(guarded)
    for form, status in (
        (b"a=" + b"x" * 70_000, 413),
        (b"&".join([b"a=1"] * 200), 400),
        (b"a=%ff", 400),
        (b"\xff", 400),
    ):
        answer = await browser.send("POST", "/console/registries", form, FORM)
        assert (answer.status, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "UPPER"}, {"name": ""}, {"name": "a" * 64}, {"name": "v2"}, {"name": "ok", "quota": "-1"},
        {"name": "ok", "quota": "nan"}, {"name": "ok", "quota": "inf"}, {"name": "ok", "quota": "much"},
    ],
)  # fmt: skip
async def test_a_registry_that_cannot_be_is_refused_on_the_page(guarded: Registry, fields: dict[str, str]) -> None:
    browser = await signed_in(guarded)
    answer = await browser.post("/console/registries", fields)
    assert answer.status == 422
    assert 'role="alert"' in answer.body.decode()


async def test_nobody_overwrites_settings_that_he_has_not_seen(guarded: Registry) -> None:
    one = f"/console/registries/{await make_registry(guarded, 'a')}"
    browser = await signed_in(guarded)
    seen = re.search(r'name="seen" value="(\d+)"', await browser.page(f"{one}/settings"))
    assert seen
    assert (await browser.post(f"{one}/settings", {"quota": "1", "seen": seen[1]})).status == 303
    refused = await browser.post(f"{one}/settings", {"quota": "2", "seen": seen[1]})
    assert (refused.status, b"somebody has changed" in refused.body.lower()) == (412, True)


async def test_a_registry_is_deleted_only_by_who_types_its_name(guarded: Registry) -> None:
    one = f"/console/registries/{await make_registry(guarded, 'a')}"
    browser = await signed_in(guarded)
    assert (await browser.post(f"{one}/delete", {"name": "b"})).status == 422
    assert (await browser.get(one)).status == 200
    assert (await browser.post(f"{one}/delete", {"name": "a"})).status == 303
    assert (await browser.get(one)).status == 404


# ---------------------------------------------------------------- collections


async def test_a_running_collection_is_watched_and_cancelled(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "a")
    db, job_id = services_of(guarded).core.db, new_id("gc")
    await db.write(partial(jobs.insert_or_running, job_id=job_id, registry_id=registry_id, now=1, by="somebody"))
    browser, one = await signed_in(guarded), f"/console/registries/{registry_id}/collection"
    for path in (one, f"{one}/job?job={job_id}"):
        text = await browser.page(path)
        assert 'hx-trigger="every' in text
        assert ">Cancel</button>" in text
    assert (await browser.post(f"{one}/cancel", {"job": job_id})).status == 303
    text = await browser.page(f"{one}/job?job={job_id}")
    assert "cancelled" in text and "hx-trigger" not in text


async def test_many_layers_at_once_wait_or_are_told_to_come_again(
    guarded: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry_id = await make_registry(guarded, "a")
    digest = await push_blob(guarded, "a/api")
    browser = await signed_in(guarded)
    path = f"/console/registries/{registry_id}/layer?image=api&digest={digest}"
    monkeypatch.setattr(layer_files._turns, "waiting", layer_files.WAITING)
    answer = await browser.get(path)
    assert (answer.status, answer.headers["Content-Type"]) == (429, "text/html; charset=utf-8")
    monkeypatch.setattr(layer_files._turns, "waiting", 0)
    assert "This layer is no tar archive" in await browser.page(path)


# ---------------------------------------------------------------- what every answer says


async def test_every_page_forbids_what_it_does_not_need(guarded: Registry) -> None:
    browser = await signed_in(guarded)
    for path in (
        "/console/",
        "/console/nowhere",
        "/console/static/console.css",
        "/console/sign-in",
        "/console/activity",
    ):
        headers = (await browser.get(path)).headers
        assert headers["Content-Security-Policy"] == POLICY
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
    assert "unsafe" not in POLICY and "http" not in POLICY
    assert (await browser.get("/console/")).headers["Cache-Control"] == "no-store"


async def test_no_page_holds_a_script_or_a_style_of_its_own(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "mine")
    browser = await signed_in(guarded)
    for path in ("/console/", f"/console/registries/{registry_id}", f"/console/registries/{registry_id}/collection"):
        text = (await browser.get(path)).body.decode()
        assert not re.search(r"<style|<script(?! src=)|\son\w+=|\sstyle=|javascript:|hx-on", text)
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', text)


@pytest.mark.parametrize(
    "name",
    ["..%2Frouting.py", "%2e%2e/__init__.py", "__init__.py", "console.css%00", ".css", "templates/base.html", "a.exe"],
)
async def test_no_other_file_is_served(guarded: Registry, name: str) -> None:
    assert (await Browsing(guarded).get(f"/console/static/{name}")).status == 404


async def test_htmx_comes_with_its_licence(guarded: Registry) -> None:
    assert "Zero-Clause BSD" in await Browsing(guarded).page("/console/static/htmx.LICENSE.txt")


async def test_a_part_of_a_page_is_sent_to_the_door_as_a_whole(guarded: Registry) -> None:
    answer = await Browsing(guarded).get("/console/", **{"HX-Request": "true"})
    assert (answer.status, answer.headers["HX-Redirect"]) == (204, "/console/sign-in")


async def test_wrong_methods_and_addresses_are_refused_as_pages(guarded: Registry) -> None:
    browser = await signed_in(guarded)
    for method, path, status in (("GET", "/console/registries/x", 404), ("PUT", "/console/", 405),
                                 ("GET", "/console/registries", 405), ("GET", "/console//", 404)):  # fmt: skip
        answer = await browser.send(method, path, None, {})
        assert (answer.status, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")


FIELDS = ("q", "sort", "page", "image", "tag", "ref", "digest", "path", "job", "before", "said", "child", "next")
ODD = ["", "%00", "%ff", "../..", "a" * 5000, "<script>", "-1", "9" * 30, "sha256:" + "0" * 64, "%F0%9F%92%A9"]


@pytest.mark.parametrize("value", ODD)
async def test_no_address_is_an_internal_error(guarded: Registry, value: str) -> None:
    registry_id = await make_registry(guarded, "mine")
    await push_image(guarded, "mine/api", "v1")
    browser = await signed_in(guarded)
    for page in PAGES:
        if page.method != "GET" or page.path in ("/static/{file}", "/events"):
            continue
        path = f"/console{page.path.format(registry_id=registry_id)}"
        for name in FIELDS:
            rest = "" if name in ("image", "tag", "ref") else "&image=api&tag=v1&ref=v1"
            answer = await browser.get(f"{path}?{name}={value}{rest}")
            assert answer.status < 500, (path, name)


def test_an_api_starts_without_what_only_pages_need() -> None:
    heavy = "{'jinja2', 'aiohttp_jinja2', 'regserver.console.serving'}"
    program = f"import sys, regserver.app; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=clean_environment())
    assert (done.stdout, done.stderr) == ("[]\n", "")
