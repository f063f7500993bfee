"""Whom the console lets do what: the same as /v1 would."""

import re
from urllib.parse import urlencode

from regserver.console.routes import PAGES
from regserver.model.access import Access
from support.browsing import FORM, Browsing, is_sent_to_the_door, signed_in, token_of
from support.managing import make_registry
from support.pushing import Registry, push_image

ALLOWED, DENIED, HIDDEN = "allowed", 403, 404
# What each access means to somebody with a token: to read, of this registry, of another one, of the administrator.
DEMANDED = {
    Access.API_LIST: (ALLOWED, ALLOWED, ALLOWED, ALLOWED),
    Access.API_READ: (ALLOWED, ALLOWED, HIDDEN, ALLOWED),
    Access.API_SECRET: (DENIED, ALLOWED, HIDDEN, ALLOWED),
    Access.API_WRITE: (DENIED, ALLOWED, HIDDEN, ALLOWED),
    Access.API_ADMIN: (DENIED, DENIED, DENIED, ALLOWED),
}
CHANGING = {Access.API_WRITE, Access.API_SECRET, Access.API_ADMIN}


def test_every_page_demands_what_it_should() -> None:
    for page in PAGES:
        if page.access is Access.OPEN:
            assert page.path in ("/static/{file}", "/sign-in", "/sign-out")
        elif page.method == "POST":
            assert page.access in CHANGING or page.path.endswith("/retention"), page.path
        else:
            assert page.access is (Access.API_READ if "{registry_id}" in page.path else Access.API_LIST), page.path
    secret = {page.path.rpartition("/")[2] for page in PAGES if page.access is Access.API_SECRET}
    assert secret == {"reveal", "rotate", "robots"}


async def test_every_page_is_judged_as_the_api_would(guarded: Registry) -> None:
    registry_id, other = await make_registry(guarded, "mine"), await make_registry(guarded, "other")
    pushed = await push_image(guarded, "mine/api", "v1")
    own, foreign = frozenset({registry_id}), frozenset({other})
    comers = [
        await signed_in(guarded, await token_of(guarded, read=True)),
        await signed_in(guarded, await token_of(guarded, registries=own)),
        await signed_in(guarded, await token_of(guarded, registries=foreign)),
        await signed_in(guarded),
    ]
    query = urlencode({"image": "api", "tag": "v1", "ref": "v1", "digest": pushed.digest})
    for page in PAGES:
        if page.access is Access.OPEN or page.path == "/events":
            continue
        path = f"/console{page.path.format(registry_id=registry_id)}?{query}"
        assert is_sent_to_the_door(await Browsing(guarded).send(page.method, path, b"", FORM)), path
        for comer, demanded in zip(comers, DEMANDED[page.access], strict=True):
            if page.method == "GET" and demanded == ALLOWED:
                wanted = 404 if page.path.endswith(("/layer", "/job")) else 200  # a manifest is no layer
                assert (await comer.get(path)).status == wanted, path
            elif demanded != ALLOWED:
                answer = await (comer.get(path) if page.method == "GET" else comer.post(path))
                assert answer.status == demanded, (page.method, path)


async def test_who_may_only_read_is_offered_nothing_else(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "mine")
    await push_image(guarded, "mine/api", "v1")
    browser = await signed_in(guarded, await token_of(guarded, read=True))
    one = f"/console/registries/{registry_id}"
    for path in ("/console/", one, f"{one}/access", f"{one}/settings", f"{one}/collection", f"{one}/image?image=api",
                 f"{one}/manifest?image=api&ref=v1", f"{one}/history?image=api&tag=v1"):  # fmt: skip
        forms = re.findall(r'<form[^>]*method="post"[^>]*action="([^"]*)"', await browser.page(path))
        assert [form for form in forms if not form.endswith(("/sign-out", "/settings"))] == [], path
    assert "<fieldset disabled>" in await browser.page(f"{one}/settings")


async def test_a_token_of_one_registry_sees_no_other(guarded: Registry) -> None:
    registry_id = await make_registry(guarded, "mine")
    await make_registry(guarded, "hidden-one")
    for name in ("mine", "hidden-one"):
        await push_image(guarded, f"{name}/api", "v1")
    browser = await signed_in(guarded, await token_of(guarded, registries=frozenset({registry_id})))
    for path in ("/console/", "/console/activity"):
        text = await browser.page(path)
        assert "mine" in text
        assert "hidden-one" not in text
