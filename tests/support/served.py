"""A registry that is really served: `python -m regserver serve` in a process of its own, on a free port of 127.0.0.1.

For everything that talks to the registry as a stranger does: the real clients, the conformance suite, the benchmarks.
"""

import base64
import contextlib
import dataclasses
import hashlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.environment import clean_environment

START_SECONDS = 30.0
STOP_SECONDS = 15.0
ANSWER_SECONDS = 60.0
_ADDRESS = re.compile(r"listening.*https?://(127\.0\.0\.1:\d+)")


class ServeError(Exception):
    """The server did not start, or an answer was not the expected one; the message holds its output."""


@dataclasses.dataclass(frozen=True)
class Account:
    """A name and password for `docker login`, and the host to use them at."""

    username: str
    password: str
    host: str

    @property
    def basic(self) -> str:
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def docker_config(self) -> dict[str, Any]:
        """The content of a `config.json` or `auth.json` that every client reads."""
        return {"auths": {self.host: {"auth": self.basic}}}


@dataclasses.dataclass(frozen=True)
class Tenant:
    """A registry created over `POST /v1/registries`, with its robot."""

    id: str
    name: str
    robot: Account

    def image(self, name: str, reference: str = "") -> str:
        """`host/registry/image[:tag|@digest]`, as a client takes it."""
        separator = "" if not reference else "@" if ":" in reference else ":"
        return f"{self.robot.host}/{self.name}/{name}{separator}{reference}"


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True)
class Served:
    """A running registry."""

    host: str
    root: Path
    log: Path
    admin_token: str = ""
    pid: int = 0

    @property
    def peak_memory(self) -> int:
        """The most memory the server ever held, in bytes (VmHWM of Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def admin(self) -> Account:
        return Account("admin", self.admin_token, self.host)

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request as it stands; no credentials but those in `headers`."""
        connection = http.client.HTTPConnection(self.host, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def manage(self, method: str, path: str, body: object | None = None) -> Answer:
        """One request to /v1 as the administrator."""
        headers = {"Authorization": f"Bearer {self.admin_token}"}
        if body is None:
            return self.request(method, path, headers=headers)
        return self.request(
            method, path, body=json.dumps(body).encode(), headers={**headers, "Content-Type": "application/json"}
        )

    def create_registry(self, name: str, *, public: bool = False) -> Tenant:
        """Create a registry, wait until it is active and take its robot's credentials; raises ServeError."""
        created = self._data(self.manage("POST", "/v1/registries", {"name": name, "public": public}), 201)
        deadline = time.monotonic() + START_SECONDS
        while self._data(self.manage("GET", f"/v1/registries/{created['id']}"), 200)["status"] == "creating":
            if time.monotonic() > deadline:
                raise ServeError(f"registry {name} stays in status creating")
            time.sleep(0.02)
        given = self._data(self.manage("GET", f"/v1/registries/{created['id']}/credentials"), 200)
        return Tenant(created["id"], name, Account(given["username"], given["password"], self.host))

    def fetch(self, account: Account, path: str, *, method: str = "GET", scope: str) -> Answer:
        """A request to /v2 with a bearer token for `scope`; raises ServeError when no token is given."""
        basic = {"Authorization": f"Basic {account.basic}"}
        query = urllib.parse.urlencode({"service": self.host, "scope": scope})
        given = self.request("GET", f"/token?{query}", headers=basic)
        if given.status != 200:
            raise ServeError(f"no token for {scope}: {given.status} {given.body[:2000]!r}")
        accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
        headers = {"Authorization": f"Bearer {given.json['token']}", "Accept": accept}
        return self.request(method, path, headers=headers)

    def stored(self, tenant: "Tenant", image: str, reference: str) -> dict[str, bytes]:
        """Everything the image or index reaches, by digest, as the registry serves it; each must hash to its name."""
        repository = f"{tenant.name}/{image}"
        found: dict[str, bytes] = {}

        def fetch(kind: str, name: str) -> bytes:
            answer = self.fetch(tenant.robot, f"/v2/{repository}/{kind}/{name}", scope=f"repository:{repository}:pull")
            if answer.status != 200:
                raise ServeError(f"{kind} {name}: {answer.status} {answer.body[:2000]!r}")
            digest = "sha256:" + hashlib.sha256(answer.body).hexdigest()
            if ":" in name and digest != name:
                raise ServeError(f"the bytes served for {name} hash to {digest}")
            found[digest] = answer.body
            return answer.body

        def walk(name: str) -> None:
            document = json.loads(fetch("manifests", name))
            for child in document.get("manifests", []):
                walk(child["digest"])
            for blob in [document[key] for key in ("config",) if key in document] + document.get("layers", []):
                fetch("blobs", blob["digest"])

        walk(reference)
        return found

    @staticmethod
    def _data(answer: Answer, status: int) -> Any:
        if answer.status != status:
            raise ServeError(f"status {answer.status} instead of {status}: {answer.body[:2000]!r}")
        return answer.json["data"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serve(
    root: Path,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = (sys.executable, "-m", "regserver"),
) -> Iterator[Served]:
    """A registry with its data in `root`; `flags` go to `regserver serve` (`--dev`, `--allow-sparse`, …).

    Ends it with SIGTERM and raises ServeError when that fails or when the server ends with an error of its own.
    """
    log = root.with_name(root.name + ".log")
    command = [*command, "serve", "--root", str(root), "--listen", "127.0.0.1:0", *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=clean_environment(environment),
        )
    try:
        host = _wait_for_its_address(process, log)
        token = root / "admin-token"
        yield Served(host, root, log, token.read_text().strip() if token.exists() else "", process.pid)
    finally:
        _stop(process, log)


def _wait_for_its_address(process: subprocess.Popen[bytes], log: Path) -> str:
    """`127.0.0.1:PORT`, as it says itself: a port that was free a moment ago may be another server's."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        if found := _ADDRESS.search(log.read_text(errors="replace")):
            return found.group(1)
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServeError(f"regserver did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes], log: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise ServeError(f"regserver did not end on SIGTERM:\n{log.read_text(errors='replace')[-4000:]}") from None
    if code not in {0, -signal.SIGTERM, 128 + signal.SIGTERM}:
        raise ServeError(f"regserver ended with {code}:\n{log.read_text(errors='replace')[-4000:]}")
