"""How the client takes what a server, or something between, may answer."""

from collections.abc import Iterator

import pytest

from regserver.cli.api import Api
from regserver.cli.exits import CommandError, NoSuchResource
from support.scripted import Scripted, scripted

TOKEN = "a-token-of-somebody"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with scripted() as found:
        yield found


@pytest.fixture
def api(server: Scripted) -> Api:
    return Api(server.url, TOKEN, "this test")


def refusal(code: str, message: str = "no", details: object = ()) -> object:
    return {"error": {"code": code, "message": message, "request_id": "req_1", "details": list(details)}}  # type: ignore[call-overload]


def test_a_request_carries_the_token_and_its_query(server: Scripted, api: Api) -> None:
    server.answer(200, {"data": {"a": 1}})
    assert api.get("/registries", {"q": "a b", "sort": None}) == {"a": 1}
    assert server.asked == [("GET", "/v1/registries?q=a+b", f"Bearer {TOKEN}")]


def test_no_content_is_none(server: Scripted, api: Api) -> None:
    server.answer(204)
    assert api.send("POST", "/x") is None


def test_a_redirect_is_not_followed_for_it_would_carry_the_token(server: Scripted, api: Api) -> None:
    server.answer(302, None, Location="https://elsewhere.example.com/")
    with pytest.raises(CommandError, match="elsewhere") as refused:
        api.get("/registries")
    assert (refused.value.code, len(server.asked)) == (6, 1)


@pytest.mark.parametrize("status", [200, 404, 502])
def test_what_is_no_regserver_is_told_apart(server: Scripted, api: Api, status: int) -> None:
    server.replies.append((status, {"Content-Type": "text/html"}, b"<html>proxy</html>"))
    with pytest.raises(CommandError, match="not as a regserver does") as refused:
        api.get("/registries")
    assert refused.value.code == 6


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 2), (401, 4), (403, 4), (405, 1), (409, 5), (412, 5), (413, 2), (415, 2), (422, 2), (500, 6), (503, 6)],
)
def test_every_refusal_has_its_exit_code(server: Scripted, api: Api, status: int, code: int) -> None:
    server.answer(status, refusal("some_code"))
    with pytest.raises(CommandError) as refused:
        api.get("/registries")
    assert refused.value.code == code
    assert TOKEN not in refused.value.message + refused.value.hint


def test_what_is_not_there_may_be_named_by_the_command(server: Scripted, api: Api) -> None:
    server.answer(404, refusal("not_found"))
    with pytest.raises(NoSuchResource) as refused:
        api.get("/registries/x")
    assert refused.value.code == 3


def test_every_field_that_is_wrong_is_named(server: Scripted, api: Api) -> None:
    details = [{"field": "name", "code": "x", "message": "is long"}, {"field": "q.b", "code": "y", "message": "is odd"}]
    server.answer(422, refusal("validation_failed", details=details))
    with pytest.raises(CommandError, match=r"^name is long; q\.b is odd$"):
        api.get("/registries")


def test_a_failure_of_the_server_names_the_request_for_its_log(server: Scripted, api: Api) -> None:
    server.answer(500, refusal("internal"))
    with pytest.raises(CommandError, match="req_1"):
        api.get("/registries")


def test_too_many_requests_are_asked_again_when_they_may_be(server: Scripted, api: Api) -> None:
    server.answer(429, refusal("too_many_requests"), Retry_After="0")
    server.answer(200, {"data": 1})
    assert api.send("POST", "/x", {}) == 1
    assert len(server.asked) == 2


@pytest.mark.parametrize(("wait", "times"), [("0", 4), ("3600", 1), ("Tue, 24 Nov 2026 10:00:00 GMT", 1)])
def test_too_many_requests_are_not_asked_again_for_ever(server: Scripted, api: Api, wait: str, times: int) -> None:
    for _ in range(5):
        server.answer(429, refusal("too_many_requests"), Retry_After=wait)
    with pytest.raises(CommandError) as refused:
        api.get("/x")
    assert (refused.value.code, len(server.asked)) == (6, times)


def test_a_change_is_not_asked_for_twice_when_the_server_fails(server: Scripted, api: Api) -> None:
    server.answer(503, refusal("unavailable"), Retry_After="0")
    with pytest.raises(CommandError):
        api.send("POST", "/x")
    assert len(server.asked) == 1


def test_a_cut_answer_is_a_server_that_cannot_be_reached(server: Scripted, api: Api) -> None:
    server.replies.append((200, {"Content-Length": "100"}, b'{"data": '))
    with pytest.raises(CommandError) as refused:
        api.get("/x")
    assert refused.value.code == 6


def test_a_list_is_followed_by_its_links_and_no_further_than_needed(server: Scripted, api: Api) -> None:
    server.answer(200, {"data": [0] * 100}, Link='</v1/x?before=e%201&per_page=100>; rel="next"')
    server.answer(200, {"data": [1] * 100}, Link='<https://elsewhere.example.com/v1/x?before=e2>; rel="next"')
    server.answer(200, {"data": [2] * 50})
    assert len(api.pages("/x", {"q": "a"})) == 250
    assert [path for _, path, _ in server.asked] == [
        "/v1/x?q=a&per_page=100",
        "/v1/x?before=e%201&per_page=100",
        "/v1/x?before=e2",
    ]
    server.replies.clear()
    server.answer(200, {"data": [0] * 5}, Link='</v1/x?page=2&per_page=7>; rel="next"')
    assert api.pages("/x", None, 7) == [0] * 7
    assert [path for _, path, _ in server.asked[3:]] == ["/v1/x?per_page=7", "/v1/x?page=2&per_page=7"]


def test_a_server_that_cannot_now_is_to_be_asked_later(server: Scripted, api: Api) -> None:
    server.answer(503, refusal("unavailable", "nothing was kept"))
    with pytest.raises(CommandError, match="nothing was kept") as refused:
        api.get("/x")
    assert refused.value.hint == "try again later"
