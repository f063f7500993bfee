"""Another registry as `import --from` reads it: its pages, its challenges, its redirects, and what it gets wrong."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from regserver.__main__ import main
from regserver.cli import remote
from regserver.cli.api import Unreachable
from regserver.cli.challenges import Challenge, Credentials, parse_challenges
from regserver.cli.distribution import Absent
from regserver.cli.docker import DockerConfig
from regserver.cli.exits import DENIED, FAILED, UNREACHABLE, USAGE, CommandError
from regserver.cli.moving import _of_docker
from regserver.cli.remote import Remote
from regserver.model.digest import Digest
from support.elsewhere import Answer, Elsewhere, elsewhere

SOMEBODY = Credentials("somebody", "secret")
BASIC = f"Basic {base64.b64encode(b'somebody:secret').decode()}"
FIRST = f"/v2/_catalog?n={remote.PER_PAGE}"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    monkeypatch.setattr(remote, "_WAITS", (0, 0, 0))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with elsewhere() as found:
        yield found


@pytest.fixture
def source(there: Elsewhere) -> Remote:
    return Remote(there.url, SOMEBODY)


def refused(there: Elsewhere, challenge: str) -> Answer:
    return 401, {"WWW-Authenticate": challenge.format(url=there.url)}, b""


def test_a_list_is_read_to_its_last_page_and_a_link_in_circles_ends(there: Elsewhere, source: Remote) -> None:
    there.give(FIRST, b'{"repositories": ["a", "b"]}', Link='</v2/_catalog?last=b>; rel="next"')
    there.give("/v2/_catalog?last=b", b'{"repositories": ["c"]}', Link=f'<{FIRST}>; rel="next"')
    assert source.catalog() == ["a", "b", "c"]
    there.give(FIRST, b'{"repositories": ["a"]}', Link="<http://elsewhere.example/v2/x?n=1>; rel=next")
    there.give("/v2/x?n=1", b'{"repositories": ["same server"]}')
    assert source.catalog() == ["a", "same server"], "a link leads to this server, whatever host it names"


def test_a_repository_without_tags_has_none_however_that_is_said(there: Elsewhere, source: Remote) -> None:
    there.give(f"/v2/empty/tags/list?n={remote.PER_PAGE}", b'{"name": "empty", "tags": null}')
    assert (source.tags("empty"), source.tags("unknown")) == ([], [])


def test_a_registry_that_lists_nothing_is_told_apart_from_no_registry(there: Elsewhere, source: Remote) -> None:
    with pytest.raises(Absent, match="lists no images") as missing:
        source.catalog()
    assert "--image team/app" in missing.value.hint
    there.give(FIRST, b"<html>welcome</html>")
    with pytest.raises(CommandError, match="does not answer as a registry does") as stranger:
        source.catalog()
    assert stranger.value.code == UNREACHABLE


def test_a_token_is_drawn_with_the_password_and_used_again(there: Elsewhere, source: Remote) -> None:
    challenge = refused(there, 'Bearer realm="{url}/token",service="the, service",scope="registry:catalog:*"')

    def catalog(headers: dict[str, str]) -> Answer:
        return (200, {}, b"{}") if headers.get("authorization") == "Bearer drawn" else challenge

    there.answers[FIRST] = catalog
    token = "/token?service=the%2C+service&scope=registry%3Acatalog%3A%2A"
    there.give(token, b'{"access_token": "drawn", "expires_in": 300}')
    source.catalog()
    source.catalog()
    assert there.asked == [(FIRST, None), (token, BASIC), (FIRST, "Bearer drawn"), (FIRST, "Bearer drawn")]


def test_an_identity_token_is_exchanged_and_a_ready_token_is_sent_as_it_is(there: Elsewhere) -> None:
    there.answers[FIRST] = lambda headers: (
        (200, {}, b"{}") if "authorization" in headers else refused(there, 'Bearer realm="{url}/token"')
    )
    there.give("/token", b'{"token": "exchanged"}')
    Remote(there.url, Credentials(identity="refresh")).catalog()
    Remote(there.url, Credentials(bearer="ready")).catalog()
    assert [who for _, who in there.asked] == [None, None, "Bearer exchanged", "Bearer ready"]


def test_a_login_that_is_refused_is_not_tried_for_ever(there: Elsewhere, source: Remote) -> None:
    there.answers[FIRST] = refused(there, 'Basic realm="x"')
    with pytest.raises(CommandError, match="does not let somebody in") as ended:
        source.catalog()
    assert (ended.value.code, len(there.asked)) == (DENIED, 2)
    assert "secret" not in ended.value.message + ended.value.hint


def test_a_password_goes_nowhere_without_tls_that_came_with_it(there: Elsewhere) -> None:
    found = Remote("https://registry.example.com", SOMEBODY)
    with pytest.raises(CommandError, match="without TLS"):
        found._authorization.answer("repository:a:pull", [f'Bearer realm="{there.url}/token"'])
    assert there.asked == []


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (['Basic realm="a, Bearer b"'], [Challenge("basic", {"realm": "a, Bearer b"})]),
        (
            ['Bearer realm="r",scope="repository:a:pull,push", Basic realm=x'],
            [
                Challenge("bearer", {"realm": "r", "scope": "repository:a:pull,push"}),
                Challenge("basic", {"realm": "x"}),
            ],
        ),
        (["Negotiate", "bearer realm=r"], [Challenge("bearer", {"realm": "r"})]),
        (['Bearer realm="a\\"b"'], [Challenge("bearer", {"realm": 'a"b'})]),
        ([""], []),
    ],
)
def test_challenges_are_read_as_they_are_written(lines: list[str], found: list[Challenge]) -> None:
    assert parse_challenges(lines) == found


def test_a_redirect_is_followed_without_what_was_meant_for_the_registry(there: Elsewhere) -> None:
    with elsewhere() as store:
        store.give("/bucket/blob", b"content")
        there.give("/v2/a/blobs/sha256:1", status=307, Location=f"{store.url}/bucket/blob")
        there.give("/v2/a/blobs/sha256:2", status=307, Location="/v2/b")
        there.give("/v2/b", b"content")
        source = Remote(there.url, Credentials(bearer="ready"))
        assert [b"".join(source.blob("a", f"sha256:{number}")) for number in (1, 2)] == [b"content"] * 2
        assert store.asked == [("/bucket/blob", None)]
    assert there.asked[-1] == ("/v2/b", "Bearer ready")


def test_a_redirect_out_of_the_web_is_not_followed(there: Elsewhere, source: Remote) -> None:
    there.give("/v2/a/blobs/sha256:1", status=307, Location="ftp://127.0.0.1:1/blob")
    with pytest.raises(CommandError, match="answers 307"):
        next(source.blob("a", "sha256:1"))


def test_a_manifest_is_hashed_whatever_the_registry_says(there: Elsewhere, source: Remote) -> None:
    content = b'{"mediaType": "application/vnd.oci.image.index.v1+json"}'
    digest = str(Digest.of(content))
    there.give("/v2/a/manifests/v1", content, Content_Type="application/json", Docker_Content_Digest=digest)
    assert source.manifest("a", "v1") == ("application/vnd.oci.image.index.v1+json", digest, content)
    there.give("/v2/a/manifests/v1", content, Content_Type="application/json")
    assert source.manifest("a", "v1").digest == digest, "not every registry says the digest"
    for told, reference in ((f"sha256:{'0' * 64}", "v1"), (digest, f"sha256:{'1' * 64}"), ("nonsense", "v1")):
        there.give(f"/v2/a/manifests/{reference}", content, Docker_Content_Digest=told)
        with pytest.raises(CommandError, match="sent other bytes"):
            source.manifest("a", reference)


def test_what_docker_wrote_before_2017_is_said_to_be_too_old(there: Elsewhere, source: Remote) -> None:
    schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    there.give("/v2/a/manifests/v1", b"{}", Content_Type=schema1)
    with pytest.raises(CommandError, match="before 2017") as ended:
        source.manifest("a", "v1")
    assert (ended.value.code, "push it again" in ended.value.hint) == (FAILED, True)


def test_what_fails_for_now_is_asked_again_and_then_given_up(there: Elsewhere, source: Remote) -> None:
    answers: list[Answer] = [(429, {"Retry-After": "0"}, b""), (502, {}, b""), (200, {}, b'{"repositories": ["a"]}')]
    there.answers[FIRST] = lambda _: answers.pop(0)
    assert source.catalog() == ["a"]
    there.give(FIRST, status=503)
    with pytest.raises(CommandError, match="answers 503") as ended:
        source.catalog()
    assert (ended.value.code, len(there.asked)) == (UNREACHABLE, 7)


def test_nobody_there_is_said_at_once() -> None:
    with elsewhere() as gone:
        url = gone.url
    with pytest.raises(Unreachable):
        Remote(url, SOMEBODY).catalog()


def test_a_copy_that_lost_its_source_says_that_it_can_be_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    with elsewhere() as gone:
        url = gone.url
    assert main(["import", "--from", url, "--image", "app"]) == UNREACHABLE
    assert "run the same command again when it is back" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "hint"), [("app:v1", "chosen with --tag"), ("UPPER/app", "--into REGISTRY")])
def test_a_name_that_is_none_here_is_left_out_and_said(
    name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", "--from", "http://127.0.0.1:1", "--image", name]) == FAILED
    shown = capsys.readouterr()
    assert f"not copied: {name}: {name} is no name for an image here" in shown.err
    assert hint in shown.err
    assert "0 tags copied" in shown.out


def test_referrers_are_asked_for_once_where_the_question_is_unknown(there: Elsewhere, source: Remote) -> None:
    digest = f"sha256:{'0' * 64}"
    assert (source.referrers("a", digest), source.referrers("a", digest), len(there.asked)) == (None, None, 1)
    knowing = Remote(there.url, SOMEBODY)
    there.give(f"/v2/a/referrers/{digest}", json.dumps({"manifests": [{"digest": digest}, {"digest": ".."}]}).encode())
    assert knowing.referrers("a", digest) == [digest], "what is no digest goes into no path"


@pytest.mark.parametrize(
    ("entry", "credentials"),
    [
        ({"auth": base64.b64encode(b"a:b:c").decode()}, Credentials("a", "b:c")),
        ({"username": "a", "password": "b"}, Credentials("a", "b")),
        ({"auth": base64.b64encode(b"a:").decode(), "identitytoken": "t"}, Credentials("a", None, None, "t")),
        ({"registrytoken": "t"}, Credentials("", None, "t")),
    ],
)
def test_dockers_entries_are_understood(entry: dict[str, str], credentials: Credentials) -> None:
    assert _of_docker(entry) == credentials


def test_a_helper_is_asked_for_what_it_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "#!/bin/sh\nread host\n"
    script += '[ "$host" = known:5000 ] || { echo "credentials not found in native keychain"; exit 1; }\n'
    helper = tmp_path / "docker-credential-box"
    helper.write_text(script + 'echo \'{"ServerURL": "known:5000", "Username": "a", "Secret": "b"}\'\n')
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text('{"credsStore": "box"}')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    config = DockerConfig({"DOCKER_CONFIG": str(tmp_path)})
    assert config.login("known:5000") == ({"username": "a", "password": "b"}, True)
    assert config.login("unknown")[1] is False


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import", "say what and where to"),
        ("import api.tar", "say what and where to"),
        ("import api.tar a/b --keep", "--keep needs --from"),
        ("import api.tar a/b --image x", "--image needs --from"),
        ("import --from http://127.0.0.1:1 my-images", "--into my-images"),
        ("import --from ftp://x", "must be http"),
        ("import --from http://127.0.0.1:1 --from-username a", "belong together"),
    ],
)
def test_what_does_not_go_together_is_a_mistake(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == USAGE
    assert said in capsys.readouterr().err
