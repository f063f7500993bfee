"""Refusals and failures: one form for each API, an id in every answer, one line in the log, no secret anywhere."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from regserver.errors import ErrorCode, RegistryError
from regserver.storage.blobs.port import StoreFailed
from regserver.storage.sql.port import DatabaseFailed
from regserver.web import errors
from regserver.web.context import SERVICES
from support.pushing import Registry, digest_of, make_content, push_blob, push_image, put_manifest, start_upload
from support.wire import connected, head

SECRET = "c2VjcmV0LXBhc3N3b3Jk"


async def test_every_answer_has_an_id_of_its_own(registry: Registry) -> None:
    answers = [await registry.send("GET", path) for path in ("/v2/", "/v2/a/b/tags/list", "/v2/x", "/healthz", "/x")]
    ids = {answer.headers["X-Request-Id"] for answer in answers}
    assert len(ids) == 5
    assert all(re.fullmatch(r"req_[0-9a-v]{26}", found) for found in ids)


async def test_an_answer_says_nothing_of_what_it_was_made_with(registry: Registry) -> None:
    for path in ("/v2/", "/nothing"):
        assert (await registry.send("GET", path)).headers["Server"] == "regserver"


async def test_content_of_strangers_is_no_page_of_ours(registry: Registry) -> None:
    document = b'{"a": "<script>alert(1)</script>"}'
    assert (await put_manifest(registry, "a/b", "page", document, "text/html")).status == 201
    answer = await registry.send("GET", "/v2/a/b/manifests/page")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


async def test_an_unknown_path_under_v2_is_refused_in_the_form_of_v2(registry: Registry) -> None:
    answer = await registry.send("GET", "/v2/a/b/c")
    assert answer.refusal == (404, "NAME_UNKNOWN")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v2/", "GET, HEAD, OPTIONS"),
        ("GET", "/v2/a/b/blobs/uploads/", "OPTIONS, POST"),
        ("PUT", f"/v2/a/b/blobs/{digest_of(b'')}", "DELETE, GET, HEAD, OPTIONS"),
        ("PATCH", "/v2/a/b/manifests/x", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("POST", f"/v2/a/b/blobs/uploads/{'0' * 32}", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
    ],
)
async def test_a_method_that_is_not_there_is_refused_with_those_that_are(
    guarded: Registry, method: str, path: str, allow: str
) -> None:
    refused = await guarded.seen_by(None).send(method, path)
    assert refused.refusal == (405, "UNSUPPORTED")
    assert refused.headers["Allow"] == allow
    options = await guarded.seen_by(None).send("OPTIONS", path)
    assert (options.status, options.headers["Allow"], options.body) == (204, allow, b"")


async def test_a_challenge_comes_with_every_401_and_no_other_answer(guarded: Registry) -> None:
    refused = await guarded.seen_by(None).send("GET", "/v2/a/b/tags/list")
    assert refused.refusal == (401, "UNAUTHORIZED")
    assert refused.headers.getall("WWW-Authenticate")[0].startswith('Bearer realm="http://127.0.0.1:')
    assert "WWW-Authenticate" not in (await guarded.send("GET", "/v2/")).headers


async def test_a_challenge_under_a_host_that_is_none_is_a_400(guarded: Registry) -> None:
    async with connected(guarded) as wire:
        await wire.send(head("GET", "/v2/").replace("Host: localhost", 'Host: evil"host'))
        assert (await wire.answer()).status == 400


@pytest.mark.parametrize("path", ["/v2/", "/token", "/v1/registries", "/elsewhere", "/v1", "/v12"])
def test_an_error_has_the_form_of_its_api(path: str) -> None:
    error = RegistryError(ErrorCode.VALIDATION_FAILED, [{"field": "name"}])
    body = json.loads(errors.render(path, error, "req_1").body)  # type: ignore[arg-type]
    expected: dict[str, Any] = {"errors": [{"code": "UNSUPPORTED", "message": error.message, "detail": error.detail}]}
    if path.startswith("/v1/") or path == "/v1":
        details = [{"field": "name"}]
        values = {"code": "validation_failed", "message": error.message, "request_id": "req_1", "details": details}
        expected = {"error": values}
    assert body == expected


@pytest.mark.parametrize("failure", [StoreFailed("no space", full=True), DatabaseFailed("/the/secret/path is broken")])
async def test_a_failed_store_is_unavailable_for_now_and_says_nothing_of_why(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    await fail_with(registry, monkeypatch, failure)
    answer = await registry.send("GET", f"/v2/a/b/blobs/{digest_of(b'')}")
    assert answer.refusal == (503, "UNAVAILABLE")
    assert answer.headers["Retry-After"] == "5"
    assert str(failure).encode() not in answer.body


async def test_what_nobody_expected_is_a_500_with_an_id_and_a_traceback_in_the_log(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await fail_with(registry, monkeypatch, ZeroDivisionError("/the/secret/path"))
    answer = await registry.send("GET", f"/v2/a/b/blobs/{digest_of(b'')}")
    assert answer.refusal == (500, "UNKNOWN")
    assert b"secret" not in answer.body
    request_id = answer.headers["X-Request-Id"]
    assert answer.json["errors"][0]["detail"] == {"request_id": request_id}
    record = next(record for record in caplog.records if record.exc_info)
    assert record.__dict__["request_id"] == request_id


async def test_a_list_that_fails_half_way_does_not_look_whole(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push_image(registry, "a/b", "v1")
    listing = registry.client.app[SERVICES].listing  # type: ignore[index]
    read = listing.tags

    async def tags(target: object, limit: int, last: str) -> Any:
        page = await read(target, limit, last)
        if last:
            raise DatabaseFailed("gone")
        return type(page)(page.items, more=True)

    monkeypatch.setattr(listing, "tags", tags)
    async with connected(registry) as wire:
        await wire.send(head("GET", "/v2/a/b/tags/list"))
        received = await wire.rest()
    assert received.startswith(b"HTTP/1.1 200 ")
    assert not received.endswith(b"0\r\n\r\n")


async def fail_with(registry: Registry, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    """Every read of a blob of `a` fails so."""
    await push_blob(registry, "a/b")

    async def open_blob(*_: object) -> None:
        raise failure

    monkeypatch.setattr(registry.client.app[SERVICES].blobs, "open", open_blob)  # type: ignore[index]


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__ for record in caplog.records if record.name == "regserver.access"]


async def test_a_redirection_is_logged_as_what_it_is(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "regserver.access")
    await registry.client.get("/", headers={"Accept": "text/html"}, allow_redirects=False)
    assert [line["status"] for line in lines(caplog)] == [303]


async def test_the_log_has_one_line_for_each_request(guarded: Registry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "regserver.access")
    await guarded.make_robot("a")
    content = make_content(200_000)
    digest = await push_blob(guarded, "a/b", content)
    caplog.clear()
    whole = await guarded.send("GET", f"/v2/a/b/blobs/{digest}")
    await guarded.send("HEAD", f"/v2/a/b/blobs/{digest}")
    await guarded.seen_by(None).send("PUT", "/v2/a/b/manifests/v1", data=b"x" * 50)
    got, asked, refused = lines(caplog)
    assert (got["method"], got["path"], got["status"]) == ("GET", f"/v2/a/b/blobs/{digest}", 200)
    assert (got["sent"], got["subject"], got["request_id"]) == (200_000, "admin", whole.headers["X-Request-Id"])
    assert got["ms"] >= 0
    assert (asked["method"], asked["sent"]) == ("HEAD", 0)
    assert (refused["status"], refused["subject"], refused["received"]) == (401, "", 50)


async def test_the_log_holds_no_secret_and_no_control_character(
    guarded: Registry, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with connected(guarded) as wire:
        for request in (
            head("GET", f"/token?service=x&account={SECRET}&password={SECRET}", f"Authorization: Basic {SECRET}"),
            head("GET", "/v2/", f"Authorization: Bearer {SECRET}"),
            head("GET", f"/v2/a%0Ab%1B[31m/manifests/v1?token={SECRET}", f"Authorization: Basic {SECRET}"),
            head("GET", "/v2/" + "a/" * 1000, f"Cookie: {SECRET}"),
            head("GET", "/v2/", f"Authorization: Bearer {SECRET}\x00"),
        ):
            await wire.send(request)
            assert (await wire.answer()).status in (400, 401, 404)
    written = caplog.text + capfd.readouterr().err + "".join(str(record.__dict__) for record in caplog.records)
    assert SECRET not in written
    paths = [line["path"] for line in lines(caplog)]
    assert "/v2/a\\nb\\x1b[31m/manifests/v1" in paths
    assert all(len(path) <= 600 for path in paths)


async def test_nothing_answers_with_a_path_of_the_server(registry: Registry, root: Path) -> None:
    location = await start_upload(registry, "a/b")
    for method, path in (("PUT", location), ("GET", "/v2/a/b/blobs/sha256:x"), ("PUT", "/v2/a/b/manifests/v1")):
        assert str(root).encode() not in (await registry.send(method, path, data=b"{")).body


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
def test_every_code_is_one_that_clients_know(code: ErrorCode) -> None:
    """The closed list of the distribution spec, and what Docker's registries have added."""
    known = {
        "BLOB_UNKNOWN BLOB_UPLOAD_INVALID BLOB_UPLOAD_UNKNOWN DIGEST_INVALID MANIFEST_BLOB_UNKNOWN MANIFEST_INVALID",
        "MANIFEST_UNKNOWN NAME_INVALID NAME_UNKNOWN SIZE_INVALID UNAUTHORIZED DENIED UNSUPPORTED TOOMANYREQUESTS",
        "PAGINATION_NUMBER_INVALID UNAVAILABLE UNKNOWN",
    }
    assert code.wire in " ".join(known).split()
    assert 400 <= code.status < 600
