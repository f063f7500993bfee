"""`regserver serve --workers 2`: what they share, how they start and end, and what one's death does."""

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import signal
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.registry import PATIENCE_SECONDS, Process, fail_to_serve, served_process

BLOB = b"x" * 100_000
DIGEST = "sha256:" + hashlib.sha256(BLOB).hexdigest()
INDEX = "application/vnd.oci.image.index.v1+json"
UPLOADS = "/v2/my-images/api/blobs/uploads/"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """For tests that leave the workers alone."""
    with served_process(tmp_path_factory.mktemp("workers") / "root", "--dev", "--workers", "2") as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    with served_process(tmp_path / "root", "--dev", "--workers", "2", "--drain-seconds", "20") as server:
        yield server


def workers(server: Process) -> list[int]:
    """Their process ids, the first one's first."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(child) for child in children]


class Connections:
    """To chosen workers."""

    def __init__(self) -> None:
        self._made: list[http.client.HTTPConnection] = []

    def to(self, server: Process, worker: int) -> http.client.HTTPConnection:
        """One that this worker has accepted: as many are made as that takes."""
        for _ in range(200):
            connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_SECONDS)
            self._made.append(connection)
            get(connection, "/healthz")
            if owner(connection) == worker:
                return connection
            connection.close()
        raise AssertionError("none of 200 connections came to it")

    def close(self) -> None:
        for connection in self._made:
            connection.close()


@pytest.fixture
def connect() -> Iterator[Connections]:
    with contextlib.closing(Connections()) as connections:
        yield connections


def owner(connection: http.client.HTTPConnection) -> int:
    """The process at the other end, as the kernel knows it."""
    here, there = connection.sock.getsockname(), connection.sock.getpeername()
    wanted = f"{_packed(there)} {_packed(here)}"
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inode = next(line.split()[9] for line in table if wanted in line)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(entry.readlink()) == f"socket:[{inode}]" for entry in (process / "fd").iterdir()):
                return int(process.name)
    raise AssertionError("nobody holds it")


def _packed(address: tuple[str, int]) -> str:
    host = int.from_bytes(socket.inet_aton(address[0]), "little")
    return f"{host:08X}:{address[1]:04X}"


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    return ask(connection, "GET", path)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, content: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    connection.request(method, path, body=content, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return found


def test_it_listens_once_all_of_them_serve_and_a_port_that_was_free_is_one_for_all(
    shared: Process, connect: Connections
) -> None:
    assert len(workers(shared)) == 2
    for worker in workers(shared):
        connect.to(shared, worker).close()
    assert [message for message in shared.messages if message == "worker serves"] == ["worker serves"] * 2


def test_an_upload_goes_on_at_the_other_worker_and_what_one_took_both_give(
    shared: Process, connect: Connections
) -> None:
    one, other = (connect.to(shared, worker) for worker in workers(shared))
    connection, location = one, UPLOADS
    connection.request("POST", UPLOADS)
    with connection.getresponse() as started:
        started.read()
        location = started.headers["Location"]
    half = len(BLOB) // 2
    assert ask(other, "PATCH", location, BLOB[:half])[0] == 202
    assert ask(one, "PATCH", location, BLOB[half:])[0] == 202
    assert ask(other, "PUT", f"{location}?digest={DIGEST}")[0] == 201
    for connection in (one, other):
        assert get(connection, f"/v2/my-images/api/blobs/{DIGEST}") == (200, BLOB)


def test_what_one_worker_has_stored_the_other_gives_at_once_though_it_gave_something_else_before(
    shared: Process, connect: Connections
) -> None:
    one, other = (connect.to(shared, worker) for worker in workers(shared))
    path = "/v2/my-images/moving/manifests/v1"
    for number in range(30):
        manifest = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "number": number}).encode()
        assert ask(one, "PUT", path, manifest, **{"Content-Type": INDEX})[0] == 201
        for _ in range(3):  # the second time and on it may be an answer that was kept
            assert get(other, path) == (200, manifest)
    assert ask(one, "DELETE", path)[0] == 202
    assert get(other, path)[0] == 404


def test_a_collection_is_run_and_a_registry_is_purged_whoever_was_asked(shared: Process, connect: Connections) -> None:
    connections = [connect.to(shared, worker) for worker in workers(shared)]
    for number, connection in enumerate(connections):
        name = json.dumps({"name": f"registry-{number}"}).encode()
        _, made = ask(connection, "POST", "/v1/registries", name, **{"Content-Type": "application/json"})
        path = f"/v1/registries/{json.loads(made)['data']['id']}"
        _, job = ask(connection, "POST", f"{path}/gc")
        job_path = f"{path}/gc/{json.loads(job)['data']['job_id']}"
        until(lambda: json.loads(get(connection, job_path)[1])["data"]["status"] == "completed")  # noqa: B023
        assert ask(connection, "DELETE", path)[0] == 204
        again = json.dumps({"name": f"registry-{number}"}).encode()
        until(lambda: get(connection, path)[0] == 404)  # noqa: B023
        assert ask(connection, "POST", "/v1/registries", again, **{"Content-Type": "application/json"})[0] == 201


@pytest.mark.parametrize("place", [0, 1])
def test_a_worker_that_is_killed_is_replaced_and_the_other_one_serves_on(
    server: Process, place: int, connect: Connections
) -> None:
    """The first one is the keeper too: the other one takes that over."""
    before = workers(server)
    witness = connect.to(server, before[1 - place])
    os.kill(before[place], signal.SIGKILL)
    until(lambda: len(workers(server)) == 2 and before[place] not in workers(server))
    assert get(witness, "/readyz")[0] == 200
    (new,) = set(workers(server)) - set(before)
    until(lambda: server.messages.count("worker serves") == 3)
    connection = connect.to(server, new)
    assert get(connection, "/readyz")[0] == 200
    _, made = ask(connection, "POST", "/v1/registries", b'{"name": "later"}', **{"Content-Type": "application/json"})
    path = f"/v1/registries/{json.loads(made)['data']['id']}/gc"
    job = json.loads(ask(connection, "POST", path)[1])["data"]["job_id"]
    until(lambda: json.loads(get(connection, f"{path}/{job}")[1])["data"]["status"] == "completed")
    told = next(event for event in server.events if event["message"].startswith("a worker has ended"))
    assert (told["worker"], told["pid"], told["ended"]) == (place, before[place], "SIGKILL")


def test_who_connects_while_a_worker_is_replaced_is_served_by_the_next_one(server: Process) -> None:
    os.kill(workers(server)[0], signal.SIGKILL)
    for _ in range(20):  # about half of them come to its door
        with socket.create_connection(server.address, timeout=PATIENCE_SECONDS) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_without_their_supervisor_the_workers_go(server: Process) -> None:
    left = workers(server)
    server.process.kill()
    server.wait()
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in left))
    assert server.messages.count("stopped") == 2, "in good order"


@pytest.mark.parametrize("who", ["the supervisor", "all of them, as a service manager does"])
def test_a_signal_lets_what_runs_come_to_its_end_in_every_worker(
    server: Process, who: str, connect: Connections
) -> None:
    uploads = [connect.to(server, worker) for worker in workers(server)]
    for connection in uploads:
        connection.putrequest("POST", f"{UPLOADS}?digest={DIGEST}")
        connection.putheader("Content-Length", str(len(BLOB)))
        connection.putheader("Content-Type", "application/octet-stream")
        connection.endheaders(BLOB[: len(BLOB) // 2])
    running = workers(server)
    until(lambda: all(_has_read(connection) for connection in uploads))
    for pid in [server.process.pid, *(running if "all" in who else [])]:
        os.kill(pid, signal.SIGTERM)
    server.wait_until_it_refuses()
    for connection in uploads:
        connection.send(BLOB[len(BLOB) // 2 :])
        assert connection.getresponse().status == 201
    assert server.wait() == 0


def _has_read(connection: http.client.HTTPConnection) -> bool:
    """Whether the other end has taken what was sent (TIOCOUTQ counts what it has not acknowledged)."""
    (left,) = struct.unpack("i", fcntl.ioctl(connection.sock, termios.TIOCOUTQ, b"\0" * 4))
    return bool(left == 0)


def test_a_second_signal_ends_all_at_once(server: Process, connect: Connections) -> None:
    connection = connect.to(server, workers(server)[1])
    connection.putrequest("POST", f"{UPLOADS}?digest={DIGEST}")
    connection.putheader("Content-Length", str(len(BLOB)))
    connection.endheaders(BLOB[:10])
    until(lambda: _has_read(connection))
    left = workers(server)
    server.send(signal.SIGTERM)
    server.wait_until_it_refuses()
    server.send(signal.SIGTERM)
    assert server.wait() == 128 + signal.SIGTERM
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in left))


def test_an_address_that_another_server_has_is_refused_although_it_would_share_it(
    shared: Process, tmp_path: Path
) -> None:
    code, said = fail_to_serve(
        tmp_path / "root", "--dev", "--workers", "2", "--listen", f"127.0.0.1:{shared.address[1]}"
    )
    assert (code, said.count("\n")) == (1, 1)
    assert "cannot listen on 127.0.0.1" in said


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--tls-cert", "/dev/null", "--tls-key", "/dev/null"], 1, "--tls-cert"),
        (["--admin-token-file", "/dev/null"], 2, "needs at least"),
    ],
)
def test_a_worker_that_cannot_start_is_the_end_and_says_why_once(
    tmp_path: Path, flags: list[str], code: int, words: str
) -> None:
    ended, said = fail_to_serve(tmp_path / "root", "--workers", "2", *flags)
    assert ended == code
    assert said.count(words) == 1
