"""The page of the description: whole, open to everybody, and nothing in it comes from elsewhere."""

import base64
import hashlib
import re
from html import unescape

import pytest

from regserver.errors import ErrorCode
from regserver.mgmt.operations import refusals
from support.description import description, managed_routes
from support.pushing import Answer, Registry


async def read_page(registry: Registry) -> Answer:
    answer = await registry.seen_by(None).send("GET", "/v1/docs")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    return answer


async def test_the_page_shows_every_operation_and_all_its_links_lead_somewhere(guarded: Registry) -> None:
    page = (await read_page(guarded)).body.decode()
    named = set(re.findall(r'id="([^"]+)"', page))
    operations = {found["operationId"] for row in description()["paths"].values() for found in row.values()}
    assert operations <= named
    assert {target.removeprefix("#") for target in re.findall(r'href="([^"]+)"', page)} <= named | {"openapi.json"}


async def test_the_page_names_every_refusal_that_an_operation_may_answer_with(guarded: Registry) -> None:
    page = (await read_page(guarded)).body.decode()
    table = page[page.index('id="errors"') :]
    found = set(re.findall(r"<td><code>(\w+)</code></td>", table))
    assert found == {code.name.lower() for row in managed_routes() for code in refusals(row)}
    assert found <= {code.name.lower() for code in ErrorCode}


async def test_the_page_takes_nothing_from_elsewhere_and_runs_nothing(guarded: Registry) -> None:
    answer = await read_page(guarded)
    page, policy = answer.body.decode(), answer.headers["Content-Security-Policy"]
    assert not re.search(r"<script|<link|<img|<iframe|<form|<object|\bsrc=|\bon\w+=|style=|@import|url\(", page)
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)
    assert style is not None
    allowed = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{allowed}'" in policy
    assert "unsafe" not in policy


async def test_the_page_is_well_formed(guarded: Registry) -> None:
    page = (await read_page(guarded)).body.decode()
    open_now: list[str] = []
    body = page[page.index("<body>") : page.index("</html>")]
    for closing, name in re.findall(r"<(/?)([a-z][a-z0-9]*)\b[^>]*>", body):
        if not closing:
            open_now.append(name)
        else:
            assert open_now.pop() == name
    assert open_now == []


async def test_an_example_is_a_call_that_the_server_takes(guarded: Registry) -> None:
    page = (await read_page(guarded)).body.decode()
    call = re.search(r"curl -X POST \"\$SERVER(/v1/registries)\".*?-d '(.*?)'", unescape(page), re.DOTALL)
    assert call is not None
    made = await guarded.send("POST", call[1], data=call[2].encode(), headers={"Content-Type": "application/json"})
    assert made.status == 201


@pytest.mark.parametrize("path", ["/v1/docs", "/v1/openapi.json"])
async def test_who_knows_it_already_is_not_sent_it_again(guarded: Registry, path: str) -> None:
    first = await guarded.seen_by(None).send("GET", path)
    tag = first.headers["ETag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = await guarded.seen_by(None).send("GET", path, headers={"If-None-Match": known})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    assert (await guarded.send("GET", path, headers={"If-None-Match": '"x"'})).body == first.body
