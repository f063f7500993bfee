"""The servers that are compared: how each is found, configured, started on an empty folder, and asked who it is.

regserver runs as it ships: credentials asked for, catalog, fsync, its log at its default. The others run as their
documentation starts them, without credentials; what a credential costs is regserver's handicap.
"""

from __future__ import annotations

import abc
import base64
import contextlib
import dataclasses
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.processes import NotMeasured, Running, start

TOP = Path(__file__).resolve().parent.parent
BIN = TOP / ".tools" / "bin"
START_SECONDS = 30.0
LOOK_SECONDS = 0.002
REGISTRY = "bench"
REPOSITORY = f"{REGISTRY}/work"


@dataclasses.dataclass
class Server:
    """A server that answers. ``header``: the line of a request that lets it push and pull, or ""."""

    name: str
    host: str
    folder: Path
    running: Running | None = None
    start_ms: float = 0.0
    header: str = ""
    basic: str = ""  # the value of Authorization for its token service, or ""
    admin: str = ""  # the administrator's token, or ""

    @property
    def pid(self) -> int:
        return self.running.process.pid if self.running else 0

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def stop(self) -> None:
        if self.running is not None:
            self.running.stop()
            self.running = None


class Peer(abc.ABC):
    """One of the servers. ``name``: as --peers takes it and as tables show it."""

    name: str
    environment: Mapping[str, str] = {}

    @abc.abstractmethod
    def program(self) -> str:
        """Where it is; raises NotMeasured with what installs it."""

    @abc.abstractmethod
    def command(self, folder: Path, port: int) -> Sequence[str]:
        """What starts it on 127.0.0.1:port, all its data in ``folder``."""

    def version(self) -> str:
        """What it says of itself, on one line."""
        done = subprocess.run([self.program(), "--version"], capture_output=True, text=True, check=False)
        return " ".join((done.stdout + done.stderr).split())[:100]

    def prepare(self, server: Server) -> None:  # noqa: B027 - most need nothing
        """What has to be done before the first push."""

    def renew(self, server: Server) -> None:  # noqa: B027 - likewise
        """A fresh ``header``, where it is good for a time only."""

    @contextlib.contextmanager
    def serve(self, folder: Path) -> Iterator[Server]:
        """Started and answering GET /v2/ with 200, or with 401 where it asks for a credential; gone behind it."""
        folder.mkdir(parents=True)
        server = Server(self.name, f"127.0.0.1:{free_port()}", folder)
        try:
            self.start(server)
            self.prepare(server)
            yield server
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)

    def start(self, server: Server) -> float:
        """Milliseconds to its first answer."""
        port = int(server.host.partition(":")[2])
        command = self.command(server.folder, port)
        began = time.monotonic()
        server.running = start(command, server.folder / "log", clean_environment(self.environment))
        _wait(server.running, port, self.name)
        server.start_ms = (time.monotonic() - began) * 1000
        return server.start_ms

    def restart(self, server: Server) -> float:
        """The same, of what has been used before."""
        server.stop()
        return self.start(server)


class Regserver(Peer):
    """Ours, with ``flags`` beside the defaults."""

    name = "regserver"

    def __init__(self, flags: Sequence[str] = ()) -> None:
        self._flags = flags

    def program(self) -> str:
        return sys.executable

    def command(self, folder: Path, port: int) -> Sequence[str]:
        words = [sys.executable, "-m", "regserver", "serve", "--root", str(folder / "data")]
        return [*words, "--listen", f"127.0.0.1:{port}", *self._flags]

    @property
    def environment(self) -> Mapping[str, str]:  # type: ignore[override]
        return {"PYTHONPATH": str(TOP)}

    def version(self) -> str:
        done = subprocess.run(
            ["git", "-C", str(TOP), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        )
        return f"commit {done.stdout.strip() or 'unknown'}, Python {sys.version.split()[0]}"

    def prepare(self, server: Server) -> None:
        server.admin = (server.folder / "data" / "admin-token").read_text().strip()
        bearer = {"Authorization": f"Bearer {server.admin}", "Content-Type": "application/json"}
        body = json.dumps({"name": REGISTRY, "public": False}).encode()
        identity = data_of(ask(server.host, "POST", "/v1/registries", body, bearer))["id"]
        while data_of(ask(server.host, "GET", f"/v1/registries/{identity}", None, bearer))["status"] == "creating":
            time.sleep(0.02)
        given = data_of(ask(server.host, "GET", f"/v1/registries/{identity}/credentials", None, bearer))
        login = base64.b64encode(f"{given['username']}:{given['password']}".encode()).decode()
        server.basic = f"Basic {login}"
        self.renew(server)

    def renew(self, server: Server) -> None:
        answer = ask(server.host, "GET", token_path(server), None, {"Authorization": server.basic})
        server.header = f"Authorization: Bearer {json.loads(answer)['token']}"


class Distribution(Peer):
    """CNCF distribution, with the settings that its repository gives for development, and its log on stdout."""

    def __init__(self, name: str, where: str, how: str) -> None:
        self.name, self._where, self._how = name, where, how

    def program(self) -> str:
        return found(self._where, self._how)

    def command(self, folder: Path, port: int) -> Sequence[str]:
        settings = folder / "settings.yml"
        settings.write_text(
            "version: 0.1\nlog:\n  fields:\n    service: registry\n"
            "storage:\n  cache:\n    blobdescriptor: inmemory\n  delete:\n    enabled: true\n"
            f"  filesystem:\n    rootdirectory: {folder / 'data'}\n"
            f"http:\n  addr: 127.0.0.1:{port}\n  headers:\n    X-Content-Type-Options: [nosniff]\n"
            "health:\n  storagedriver:\n    enabled: true\n    interval: 10s\n    threshold: 3\n"
        )
        return [self.program(), "serve", str(settings)]

    @property
    def environment(self) -> Mapping[str, str]:  # type: ignore[override]
        return {"OTEL_TRACES_EXPORTER": "none"}  # version 3 otherwise looks for a collector of traces

    def version(self) -> str:
        return super().version().partition(" ")[2]


class Olareg(Peer):
    name = "olareg"

    def program(self) -> str:
        return found(str(BIN / "olareg"), "tools/setup-clients --peers")

    def command(self, folder: Path, port: int) -> Sequence[str]:
        (folder / "data").mkdir(exist_ok=True)
        words = [self.program(), "serve", "--addr", "127.0.0.1", "--port", str(port)]
        return [*words, "--dir", str(folder / "data"), "--api-delete"]

    def version(self) -> str:
        done = subprocess.run(["go", "version", "-m", self.program()], capture_output=True, text=True, check=False)
        match = re.search(r"^\tmod\t\S+\t(\S+)", done.stdout, re.MULTILINE)
        return match[1] if match else "unknown"


class Zot(Peer):
    """Without its extensions; deduplication at its default, its log in its file."""

    name = "zot"

    def program(self) -> str:
        return found(str(BIN / "zot"), "tools/setup-clients --peers")

    def command(self, folder: Path, port: int) -> Sequence[str]:
        settings = folder / "settings.json"
        data = {
            "distSpecVersion": "1.1.1",
            "storage": {"rootDirectory": str(folder / "data")},
            "http": {"address": "127.0.0.1", "port": str(port)},
            "log": {"level": "info"},
        }
        settings.write_text(json.dumps(data))
        return [self.program(), "serve", str(settings)]

    def version(self) -> str:
        return Olareg.version(self)  # type: ignore[arg-type]


class Nginx(Peer):
    """No registry: files from a folder, as fast as they go. The limit for what is read."""

    name = "nginx"

    def program(self) -> str:
        found_here = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        return found(found_here or "nginx", "tools/setup-clients --peers")

    def command(self, folder: Path, port: int) -> Sequence[str]:
        settings = folder / "settings.conf"
        (folder / "data").mkdir(exist_ok=True)
        folder.chmod(0o755)
        settings.write_text(nginx_settings(folder, f"listen 127.0.0.1:{port};\n    root {folder / 'data'};"))
        return [self.program(), "-e", str(folder / "error"), "-c", str(settings)]

    def version(self) -> str:
        done = subprocess.run([self.program(), "-v"], capture_output=True, text=True, check=False)
        return done.stderr.partition("/")[2].strip()


def nginx_settings(folder: Path, server: str, more: str = "") -> str:
    """A configuration that runs in the foreground as whoever starts it, and writes no access log."""
    user = "user root;\n" if os.geteuid() == 0 else ""
    temporary = " ".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"{user}daemon off;\nworker_processes auto;\npid {folder}/pid;\nworker_rlimit_nofile 8192;\n"
        "events { worker_connections 4096; }\n"
        f"http {{\n  {temporary}\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n"
        f"  keepalive_requests 1000000000;\n  open_file_cache max=1000;\n"
        f"  default_type application/octet-stream;\n{more}"
        f"  server {{\n    {server}\n  }}\n}}\n"
    )


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Regserver(),
        Distribution("2.8.2", "docker-registry", "apt-get install docker-registry"),
        Distribution("v3", str(BIN / "registry"), "tools/setup-clients --peers"),
        Olareg(),
        Zot(),
        Nginx(),
    )
}


def found(program: str, how: str) -> str:
    """Raises NotMeasured where it is not installed."""
    here = shutil.which(program)
    if here is None:
        raise NotMeasured(f"{Path(program).name} is not installed: {how}")
    return here


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's own without settings of any of the servers, and ``more``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGSERVER_", "REGISTRY_"))}
    return {**kept, **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def token_path(server: Server, repository: str = REPOSITORY) -> str:
    query = {"service": server.host, "scope": f"repository:{repository}:pull,push"}
    return f"/token?{urllib.parse.urlencode(query)}"


def _wait(running: Running, port: int, name: str) -> None:
    """Until a GET is answered; raises NotMeasured with the server's log otherwise."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/v2/")
            if connection.getresponse().status < 500:
                return
        except OSError:
            pass
        finally:
            connection.close()
        if running.process.poll() is not None or time.monotonic() > deadline:
            raise NotMeasured(f"{name} did not start: {running.said()[-400:]}")
        time.sleep(LOOK_SECONDS)


def ask(host: str, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    """The body of an answer that is 2xx; raises NotMeasured for another."""
    connection = http.client.HTTPConnection(host, timeout=120)
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        raise NotMeasured(f"{method} {path}: {response.status} {answer[:300]!r}")
    return answer


def data_of(answer: bytes) -> dict[str, str]:
    known: dict[str, str] = json.loads(answer)["data"]
    return known
