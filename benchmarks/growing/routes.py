"""What connections, TLS and a proxy cost: the same requests straight, over TLS, and through nginx with TLS or none."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import shutil
import ssl
import subprocess
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.clients import MIB, Load, wrk
from benchmarks.contents import Small, digest_of
from benchmarks.growing.sizes import Point
from benchmarks.processes import NotMeasured, start
from benchmarks.run import say
from benchmarks.scenarios.small import ASKED, path_of
from benchmarks.servers import PEERS, REPOSITORY, Nginx, Peer, Regserver, Server, clean_environment, free_port
from benchmarks.servers import nginx_settings as settings

CONNECTIONS: Sequence[int] = (1, 10, 100, 1000)
PEERS_BESIDE = ("olareg", "v3", "2.8.2")
START_SECONDS = 30.0
CURL_SECONDS = 600
# A head that no server has seen; wrk's threads name themselves by where their tables lie.
UNSEEN = """
local serial, name = 0, tostring({}):sub(8)
function request()
  serial = serial + 1
  wrk.headers["User-Agent"] = "bench/" .. name .. "." .. serial
  return wrk.format()
end
"""


@dataclasses.dataclass(frozen=True)
class Way:
    """``curve``: the first word is the server whose colour it has."""

    curve: str
    url: str


def connections(load: Load, folder: Path, seconds: int, mib: int) -> Iterator[Point]:
    """regserver on each way, then the other registries straight."""
    peer = Regserver()
    blob = folder / "large"
    with blob.open("wb") as file:
        for number in range(mib):
            file.write(load.content(number, MIB))
    with peer.serve(folder / "server") as server:
        image = Small(server, os.urandom(2048))
        with ways(peer, server, folder) as found:
            for place, way in enumerate(found):
                peer_header(peer, server, way)
                yield from rates(server, image, way, seconds, folder)
                yield from bulk(server, way, blob, mib, place)
    for name in PEERS_BESIDE:
        with contextlib.suppress(NotMeasured), PEERS[name].serve(folder / "server") as server:
            image = Small(server, os.urandom(2048))
            yield from rates(server, image, Way(name, server.url), seconds, folder)


def peer_header(peer: Peer, server: Server, way: Way) -> None:
    """A fresh token, as long as the server can be asked for one without TLS."""
    if way.curve != "regserver, TLS":
        peer.renew(server)


@contextlib.contextmanager
def ways(peer: Regserver, server: Server, folder: Path) -> Iterator[Iterator[Way]]:
    """One after the other: the last of them starts the server anew, with TLS."""
    certificate, key = certify(folder)
    with contextlib.ExitStack() as stack:

        def each() -> Iterator[Way]:
            yield Way("regserver", server.url)
            secured = f" ssl;\n    ssl_certificate {certificate};\n    ssl_certificate_key {key}"
            for curve, scheme, listen in (("nginx", "http", ""), ("nginx TLS", "https", secured)):
                port = stack.enter_context(proxy(server, folder / curve.replace(" ", "-"), listen))
                yield Way(f"regserver, {curve}", f"{scheme}://127.0.0.1:{port}")
            server.stop()
            secure = Regserver(("--tls-cert", str(certificate), "--tls-key", str(key)))
            port = int(server.host.partition(":")[2])
            command = secure.command(server.folder, port)
            server.running = start(command, server.folder / "log", clean_environment(secure.environment))
            wait(port)
            yield Way("regserver, TLS", f"https://{server.host}")

        yield each()


@contextlib.contextmanager
def proxy(server: Server, folder: Path, listen: str) -> Iterator[int]:
    """nginx before the server, as its documentation has it for registries: nothing buffered; its port."""
    folder.mkdir()
    folder.chmod(0o755)
    port = free_port()
    line = f"listen 127.0.0.1:{port}{listen};"
    place = (
        "location / {\n      proxy_pass http://registry;\n      proxy_http_version 1.1;\n"
        '      proxy_set_header Connection "";\n      proxy_set_header Host $http_host;\n'
        "      client_max_body_size 0;\n      proxy_request_buffering off;\n      proxy_buffering off;\n    }"
    )
    file = folder / "settings.conf"
    upstream = f"  upstream registry {{ server {server.host}; keepalive 1024; keepalive_requests 1000000000; }}\n"
    file.write_text(settings(folder, f"{line}\n    {place}", upstream))
    running = start([Nginx().program(), "-e", str(folder / "error"), "-c", str(file)], folder / "log", os.environ)
    try:
        wait(port, secure=bool(listen))
        yield port
    finally:
        running.stop()


def certify(folder: Path) -> tuple[Path, Path]:
    """A certificate (ECDSA, P-256) and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if shutil.which("openssl") is None:
        raise NotMeasured("openssl is not installed")
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    words += ["-days", "2", "-subj", "/CN=localhost"]
    done = subprocess.run([*words, "-keyout", str(key), "-out", str(certificate)], capture_output=True, check=False)
    if done.returncode:
        raise NotMeasured(f"openssl made no certificate: {done.stderr.decode(errors='replace')[-300:]}")
    return certificate, key


def wait(port: int, secure: bool = True) -> None:
    """Until GET /v2/ is answered."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    deadline = time.monotonic() + START_SECONDS
    while True:
        connection = (
            http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
            if secure
            else http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        )
        try:
            connection.request("GET", "/v2/")
            if connection.getresponse().status < 500:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        if time.monotonic() > deadline:
            raise NotMeasured(f"nothing answers on port {port}")
        time.sleep(0.02)


def rates(server: Server, image: Small, way: Way, seconds: int, folder: Path) -> Iterator[Point]:
    """Requests per second, and the 99th percentile of their times. A point that fails is left out."""
    url = way.url + path_of(ASKED[1], image)
    for count in CONNECTIONS:
        for chart, script in (("again", ""), ("first", UNSEEN)):
            try:
                rate = wrk(url, server.header, seconds, count, script=script, folder=folder)
            except NotMeasured as error:
                say(f"{way.curve}, {count} connections: {error}")
                continue
            yield f"connections-{chart}", way.curve, count, rate.per_second
            yield f"connections-{chart}-p99", way.curve, count, rate.p99


def bulk(server: Server, way: Way, blob: Path, mib: int, place: int) -> Iterator[Point]:
    """MB/s of one push and one pull by curl; its TLS takes as much of the processor as the server's."""
    with blob.open("r+b") as file:
        file.write(place.to_bytes(8, "big"))  # no server has seen it
    digest = digest_of(blob.read_bytes())
    blobs = f"{way.url}/v2/{REPOSITORY}/blobs"
    location = curl(["-X", "POST", "-o", "/dev/null", "-w", "%header{location}"], server, f"{blobs}/uploads/")
    target = urllib.parse.urljoin(f"{blobs}/", location)
    target += f"{'&' if '?' in target else '?'}digest={digest}"
    kind = ["-H", "Content-Type: application/octet-stream"]
    for chart, words, url in (("push", ["-T", str(blob), *kind], target), ("pull", [], f"{blobs}/{digest}")):
        seconds = float(curl([*words, "-f", "-o", "/dev/null", "-w", "%{time_total}"], server, url))
        yield f"bulk-{chart}", way.curve, 1, mib * MIB / 1e6 / seconds


def curl(words: Sequence[str], server: Server, url: str) -> str:
    command = ["curl", "-sS", "-k", "--http1.1", "-m", str(CURL_SECONDS), "-H", server.header, *words, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMeasured(f"curl {url}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()
