"""How the process starts, listens and ends. What a signal does is seen from outside."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path
from typing import Self

import pytest

from regserver import serving
from regserver.app import DATABASE, create_app
from regserver.web import connection
from support.registry import (
    ADMIN_TOKEN,
    PATIENCE_SECONDS,
    Process,
    events,
    fail_to_serve,
    make_settings,
    serve_command,
    served_process,
)

BLOB = b"x" * 100_000
DIGEST = "sha256:" + hashlib.sha256(BLOB).hexdigest()
INDEX = "application/vnd.oci.image.index.v1+json"
UPLOADS = "/v2/my-images/api/blobs/uploads/"


class Client:
    """One connection that is kept open between requests."""

    def __init__(self, server: Process) -> None:
        self.connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body."""
        self.connection.request("GET", path, headers=headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()


class Upload(Client):
    """A single POST whose body is half sent, and whose handler is reading."""

    def __init__(self, server: Process) -> None:
        super().__init__(server)
        self.connection.putrequest("POST", f"{UPLOADS}?digest={DIGEST}")
        self.connection.putheader("Content-Length", str(len(BLOB)))
        self.connection.putheader("Expect", "100-continue")
        self.connection.endheaders()
        assert self.connection.sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        self.connection.send(BLOB[:1000])

    def finish(self) -> tuple[int, str | None]:
        """Status, and what the answer says about the connection."""
        self.connection.send(BLOB[1000:])
        answer = self.connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("Connection")


def get(server: Process, path: str, **headers: str) -> tuple[int, bytes]:
    with Client(server) as client:
        return client.get(path, **headers)


def test_the_first_line_says_which_version_serves_what_and_where(tmp_path: Path) -> None:
    with served_process(tmp_path / "data", "--dev") as server:
        first = next(event for event in events(tmp_path / "data.log") if event["message"] == "listening")
        assert first["version"]
        assert first["root"] == str(tmp_path / "data")
        assert first["address"] == str(server.url).rstrip("/")


def test_dev_says_in_three_lines_how_to_go_on(tmp_path: Path) -> None:
    with served_process(tmp_path / "data", "--dev") as server:
        get(server, "/healthz")
        said = [line.split()[0] for line in server.output.splitlines() if line.startswith("  ")]
        assert said == ["push", "pull", "stop"]
        assert f"localhost:{server.url.port}/my-images/" in server.output


def test_without_dev_nothing_is_open_and_the_token_is_named_by_its_file_only(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with served_process(root) as server:
        assert get(server, "/v2/")[0] == 401
        assert get(server, "/v1/registries")[0] == 401
        assert f"docker login -u admin --password-stdin {server.url.authority} < {root}/admin-token" in server.output
        assert (root / "admin-token").stat().st_mode & 0o777 == 0o600
        assert (root / "admin-token").read_text().strip() not in server.output


def test_a_token_of_the_environment_is_used_and_not_shown(tmp_path: Path) -> None:
    with served_process(tmp_path / "data", environment={"REGSERVER_ADMIN_TOKEN": ADMIN_TOKEN}) as server:
        assert get(server, "/v1/registries", Authorization=f"Bearer {ADMIN_TOKEN}")[0] == 200
        assert '<<< "$REGSERVER_ADMIN_TOKEN"' in server.output
        assert ADMIN_TOKEN not in server.output
        assert not (tmp_path / "data" / "admin-token").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_server_with_0(tmp_path: Path, number: signal.Signals) -> None:
    with served_process(tmp_path / "data", "--dev") as server, Client(server) as idle:
        idle.get("/healthz")
        server.send(number)
        assert server.wait() == 0
        assert server.messages[-1] == "stopped"


def test_an_upload_under_way_ends_well_and_no_new_connection_is_taken(tmp_path: Path) -> None:
    with served_process(tmp_path / "data", "--dev") as server, Upload(server) as upload:
        server.send(signal.SIGTERM)
        server.wait_until_it_refuses()
        assert upload.finish() == (201, "close")
        assert server.wait() == 0
    with served_process(tmp_path / "data", "--dev") as server:
        assert get(server, f"/v2/my-images/api/blobs/{DIGEST}") == (200, BLOB)


def test_readiness_is_red_while_the_last_requests_run(tmp_path: Path) -> None:
    with served_process(tmp_path / "data", "--dev") as server, Client(server) as orchestrator:
        assert orchestrator.get("/readyz") == (200, b'{"status": "ok"}')
        with Upload(server) as upload:
            server.send(signal.SIGTERM)
            server.wait_until_it_refuses()
            status, body = orchestrator.get("/readyz")
            assert (status, b"shutting down" in body) == (503, True)
            assert upload.finish() == (201, "close")
        assert server.wait() == 0


def test_what_does_not_end_in_time_is_cut_and_said(tmp_path: Path) -> None:
    with served_process(tmp_path / "data", "--dev", "--drain-seconds", "0") as server, Upload(server):
        server.send(signal.SIGTERM)
        assert server.wait() == 0
        assert any("requests were cut" in message for message in server.messages)


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with served_process(tmp_path / "data", "--dev", "--drain-seconds", "3600") as server, Upload(server):
        server.send(signal.SIGTERM)
        server.wait_until_it_refuses()
        server.send(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM


def test_after_a_kill_the_next_start_serves_what_was_acknowledged(tmp_path: Path) -> None:
    with served_process(tmp_path / "data", "--dev") as server, Upload(server) as upload:
        assert upload.finish()[0] == 201
        server.send(signal.SIGKILL)
        server.wait()
    with served_process(tmp_path / "data", "--dev") as server:
        assert get(server, f"/v2/my-images/api/blobs/{DIGEST}") == (200, BLOB)
        assert get(server, "/readyz")[0] == 200


def test_an_address_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = fail_to_serve(tmp_path / "data", "--listen", f"127.0.0.1:{port}")
    assert (code, said.count("\n")) == (1, 1)
    assert f"cannot listen on 127.0.0.1:{port}" in said


def test_a_root_that_is_no_folder_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    code, said = fail_to_serve(tmp_path / "data", "--dev")
    assert (code != 0, said.count("\n")) == (True, 1)
    assert str(tmp_path / "data") in said


def test_a_signing_key_that_others_can_read_keeps_it_from_starting(tmp_path: Path) -> None:
    with served_process(tmp_path / "data") as server:
        server.send(signal.SIGTERM)
        server.wait()
    key = next((tmp_path / "data" / "keys").glob("*.pem"))
    key.chmod(0o644)
    code, said = fail_to_serve(tmp_path / "data")
    assert (code, said.count("\n")) == (1, 1)
    assert f"chmod 600 {key}" in said


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"REGSERVER_ADMIN_TOKEN": "short"}, "at least 16 characters"),
        ({"REGSERVER_ADMIN_TOKEN_FILE": "/nonexistent/token"}, "/nonexistent/token: No such file"),
        ({"REGSERVER_DEVV": "true"}, "did you mean REGSERVER_DEV?"),
    ],
)
def test_a_bad_setting_ends_with_one_line_and_exit_2(tmp_path: Path, environment: dict[str, str], said: str) -> None:
    code, error = fail_to_serve(tmp_path / "data", environment=environment)
    assert (code, error.count("\n")) == (2, 1)
    assert said in error


def test_migrate_says_what_it_applied_and_then_nothing(tmp_path: Path) -> None:
    command = [*serve_command(tmp_path)[:3], "migrate", "--root", str(tmp_path / "data")]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert said[0].startswith("applied 0001_initial\n")
    assert said[1] == ""


@pytest.mark.parametrize("command", [["serve"], ["migrate"], ["keys", "rotate"]])
def test_a_database_of_a_newer_version_is_refused_in_one_line(tmp_path: Path, command: list[str]) -> None:
    program = serve_command(tmp_path)[:3]
    subprocess.run([*program, "migrate", "--root", str(tmp_path)], check=True, capture_output=True)
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as database:
        database.execute("INSERT INTO schema_migrations VALUES (999, 'later', '', 0)")
    ended = subprocess.run([*program, *command, "--root", str(tmp_path)], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "999_later" in ended.stderr


def test_keys_rotate_makes_no_registry_where_there_is_none(tmp_path: Path) -> None:
    command = [*serve_command(tmp_path)[:3], "keys", "rotate", "--root", str(tmp_path / "typo")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "typo").exists()


def test_keys_rotate_makes_another_key_sign_while_a_server_runs(tmp_path: Path) -> None:
    with served_process(tmp_path / "data") as server:
        before = {path.name for path in (tmp_path / "data" / "keys").iterdir()}
        command = [*serve_command(tmp_path)[:3], "keys", "rotate", "--root", str(tmp_path / "data")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        new = {path.name for path in (tmp_path / "data" / "keys").iterdir()} - before
        assert f"{next(name for name in new if not name.endswith('.pub.pem')).removesuffix('.pem')} signs" in said
        assert get(server, "/readyz")[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"secret\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nsecret\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nsecret : a\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + b"secret" * 10_000 + b"\r\n\r\n",
        b"GET /v2/" + b"secret" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n" + b"secret: a\r\n" * 300 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_request_gets_the_documented_error_and_is_quoted_nowhere(
    tmp_path: Path, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(tmp_path / "data", dev=True)
    listener = await serving.listen(await create_app(settings, admin_token=ADMIN_TOKEN), settings, None)
    reader, writer = await asyncio.open_connection(*listener.addresses[0])
    writer.write(head)
    status, _, rest = (await reader.read()).partition(b"\r\n")
    _, _, body = rest.partition(b"\r\n\r\n")
    assert status.split()[1] == b"400"
    assert json.loads(body)["errors"][0]["code"] == "UNSUPPORTED"
    assert b"secret" not in rest
    assert b"aiohttp" not in rest
    assert "secret" not in caplog.text
    writer.close()
    assert await listener.close(1)


def test_an_answer_that_a_slow_client_has_not_read_is_sent_to_its_end(tmp_path: Path) -> None:
    manifest = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "x": "x" * 7_000_000}).encode()
    url = "/v2/my-images/api/manifests/v1"
    with served_process(tmp_path / "data", "--dev") as server, socket.socket() as slow:
        with Client(server) as client:
            client.connection.request("PUT", url, manifest, {"Content-Type": INDEX})
            assert client.connection.getresponse().status == 201
        slow.settimeout(PATIENCE_SECONDS)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(server.address)
        slow.sendall(f"GET {url} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received = slow.recv(1000)
        server.send(signal.SIGTERM)
        server.wait_until_it_refuses()
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(2.5 * serving.CUT_SECONDS)  # longer than the framework's own shutdown would wait
        while part := slow.recv(2**20):
            received += part
        assert received.partition(b"\r\n\r\n")[2] == manifest
        assert server.wait() == 0


async def test_a_connection_that_does_not_finish_its_head_in_time_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow-header attacks (CVE-2007-6750) hold a descriptor for every connection they open."""
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.05)
    settings = make_settings(tmp_path / "data", dev=True)
    listener = await serving.listen(await create_app(settings, admin_token=ADMIN_TOKEN), settings, None)
    host, port = listener.addresses[0]
    slow_reader, slow_writer = await asyncio.open_connection(host, port)
    slow_writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert await slow_reader.read() == b"", "the half head is cut"
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).count(b"HTTP/1.1 200") == 1, "a connection that has served is not"
    slow_writer.close()
    writer.close()
    assert await listener.close(1)


def test_the_output_of_a_whole_life_is_json_and_three_lines(tmp_path: Path) -> None:
    with served_process(tmp_path / "data", "--dev") as server:
        get(server, "/v2/")
        server.send(signal.SIGTERM)
        server.wait()
        others = [line for line in server.output.splitlines() if not line.startswith("{")]
        assert len(others) == 3
        assert os.environ.get("HOME", "/root") + "/." not in server.output
