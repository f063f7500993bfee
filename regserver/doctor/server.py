"""A server as its clients reach it, through every proxy between: asked over HTTP, with no login and no effect.

Every request is one that a regserver answers at once whatever its settings, so that another answer, or none, tells of
what stands in front of it.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from urllib.parse import urlencode, urlsplit

from regserver.cli.challenges import parse_challenges
from regserver.cli.words import plain
from regserver.config import is_loopback
from regserver.doctor.certificates import expiry
from regserver.doctor.findings import Finding, Findings, error, ok, warning

ANSWER_SECONDS = 20.0
BODY_SECONDS = 10.0  # for an answer that needs no body: what waits longer collects the body first
LARGE_BODY = 20 * 2**30  # bytes that are announced and never sent: a layer larger than most
LONG_TOKEN = "x" * 4096  # nobody's; real ones have up to about 2 KiB
SKEW_SECONDS = 30.0
_TRICKLE_SECONDS = 0.1
_MARK = "Docker-Distribution-Api-Version"
_NOBODY = "/v2/Regserver-Doctor/blobs/uploads/"  # no name: refused before anybody is asked who they are


@dataclass(frozen=True, slots=True)
class Heard:
    status: int
    headers: Message
    body: bytes
    seconds: float

    @property
    def is_ours(self) -> bool:
        return self.headers.get(_MARK) is not None


class NoAnswer(Exception):
    """The text says why."""


class Silent(Exception):
    """The connection stands, and no answer comes."""


def look_at_server(url: str) -> Findings:
    """``url`` is the address that clients use. Ends after the first thing without which the rest means nothing."""
    try:
        if url.startswith("https://"):
            yield from _certificate(url)
        first = ask(url, "GET", "/v2/")
    except NoAnswer as none:
        yield error("reach", f"{url} gives no answer: {none}", "is it running, and is this how clients reach it?")
        return
    if first.status in {502, 503, 504} and not first.is_ours:
        yield error(
            "reach", f"a proxy answers {first.status} at {url}: it does not reach the registry behind it",
            "is regserver running, and at the address that the proxy passes to? journalctl -u regserver",
        )  # fmt: skip
        return
    if not first.is_ours:
        yield error(
            "reach", f"{url}/v2/ is answered ({first.status}) by something that is no registry",
            "let the proxy pass /v2/, /v1/ and /token to regserver, with the path as it came",
        )  # fmt: skip
        return
    yield ok("reach", f"{url} is a registry, and answers in {first.seconds * 1000:.0f} ms")
    yield from _scheme(url)
    yield from _clock(url)
    for check in (_ready, _challenge, _authorization, _body):
        try:
            yield from check(url)
        except NoAnswer as none:
            yield error(check.__name__[1:], f"{url} stopped answering: {none}", "look at its log, then run this again")


def _scheme(url: str) -> Findings:
    host = urlsplit(url).hostname or ""
    if url.startswith("https://") or is_loopback(host):
        return
    yield warning(
        "tls", "plain http: docker refuses it for any host but this machine, and passwords can be read on the way",
        "serve with --tls-cert and --tls-key, or put a proxy with TLS before it (docs: production)",
    )  # fmt: skip


def _certificate(url: str) -> Findings:
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 443)
    try:
        with (
            socket.create_connection(address, ANSWER_SECONDS) as plain_socket,
            ssl.create_default_context().wrap_socket(plain_socket, server_hostname=address[0]) as secured,
        ):
            yield from expiry("tls", str((secured.getpeercert() or {}).get("notAfter", "")))
    except ssl.SSLCertVerificationError as refused:
        yield _untrusted(address[0], refused)
    except (OSError, ValueError) as failed:
        raise NoAnswer(_reason(failed)) from None


def _untrusted(host: str, refused: ssl.SSLCertVerificationError) -> Finding:
    own = f"give its authority to docker as /etc/docker/certs.d/{host}/ca.crt, to others by SSL_CERT_FILE"
    advice = {
        10: "renew it: the certificate has expired",
        18: own,
        19: own,
        20: f"serve the whole chain, the certificate and then its intermediates in one file; if it is whole, {own}",
        21: f"serve the whole chain, the certificate and then its intermediates in one file; if it is whole, {own}",
        62: f"a certificate whose names include {host} is needed",
    }
    said = refused.verify_message
    return error(
        "tls", f"clients will not trust it: {said}", advice.get(refused.verify_code, "get another certificate")
    )


def _clock(url: str) -> Findings:
    """Tokens live for minutes: their issuer and whoever checks them must agree on the time."""
    heard, now = ask(url, "GET", "/healthz"), time.time()
    try:
        there = parsedate_to_datetime(heard.headers.get("Date", "")).timestamp()
    except ValueError:
        return
    skew = abs(there - now) - heard.seconds - 1  # Date has whole seconds
    if skew > SKEW_SECONDS:
        yield warning(
            "clock", f"its clock and this machine's are {skew:.0f} s apart",
            "set both by NTP (timedatectl set-ntp true): tokens and certificates depend on it",
        )  # fmt: skip
    else:
        yield ok("clock", "its clock and this machine's agree")


def _ready(url: str) -> Findings:
    heard = ask(url, "GET", "/readyz")
    with suppress(ValueError, AttributeError, TypeError):
        reasons = json.loads(heard.body).get("reasons") or []
        for reason in reasons:
            yield error("ready", f"it is not ready: {plain(reason)}", _READY.get(reason, "its log says more"))
        if heard.status == 200:
            yield ok("ready", "it takes writes: a transaction commits, the disk syncs, there is space")
        return
    yield warning("ready", f"/readyz is answered with {heard.status}", "pass it on if something asks for it there")


_READY = {
    "free space is below the reserve": "delete images and collect (regserver gc run NAME), or give it a larger disk",
    "shutting down": "it is being stopped; run this again afterwards",
    "the blob store does not take writes": "is the disk full, or mounted read-only? regserver doctor --root DIR",
    "a sync of the blob store failed": "the disk is failing: back up now, replace it, then restart the server",
}


def _challenge(url: str) -> Findings:
    """Where clients are sent for a token must be where they can go."""
    heard = ask(url, "GET", "/v2/")
    if heard.status == 200:
        yield warning("login", "it is open: whoever reaches it may push and delete", "leave --dev out where others are")
        return
    found = [one for one in parse_challenges(heard.headers.get_all("WWW-Authenticate") or []) if one.scheme == "bearer"]
    if not found:
        yield error("login", "no WWW-Authenticate arrives", "let the proxy pass the header of a 401 on")
        return
    realm = urlsplit(found[0].parameters.get("realm", ""))
    here = urlsplit(url)
    if (realm.scheme, realm.netloc) != (here.scheme, here.netloc.lower()):
        yield _wrong_realm(url, f"{realm.scheme}://{realm.netloc}", is_scheme=realm.netloc == here.netloc.lower())
        return
    service = urlencode({"service": found[0].parameters.get("service", "")})
    answer = ask(url, "GET", f"{realm.path}?{service}")
    if answer.status in {200, 401}:
        yield ok("login", "clients are sent for their tokens to where they can get them")
    else:
        yield error("login", f"{realm.path} is answered with {answer.status}", "let the proxy pass /token to regserver")


def _wrong_realm(url: str, realm: str, *, is_scheme: bool) -> Finding:
    header = "X-Forwarded-Proto $scheme" if is_scheme else "Host $http_host"
    return error(
        "login", f"clients are sent to {plain(realm)} for a token, and not to {url}: logins fail",
        f"serve with --public-url {url}; or let the proxy set the header {header}"
        + (", and name the proxy in --trusted-proxies" if is_scheme else ""),
    )  # fmt: skip


def _authorization(url: str) -> Findings:
    """Tokens travel in a header that some proxies keep for themselves, or find too long."""
    heard = ask(url, "GET", "/v2/", {"Authorization": f"Bearer {LONG_TOKEN}"})
    if heard.status in {400, 431} and not heard.is_ours:
        yield error(
            "headers", f"a header of 4 KiB is refused with {heard.status}",
            "allow more in the proxy (nginx: large_client_header_buffers 4 16k)",
        )  # fmt: skip
    elif heard.status == 401 and "invalid_token" not in heard.headers.get("WWW-Authenticate", ""):
        yield error("headers", "the Authorization header does not arrive", "let the proxy pass Authorization on")
    else:
        yield ok("headers", "the Authorization header arrives, a long one too")


def _body(url: str) -> Findings:
    """A layer is announced and not sent: regserver answers at once. A limit answers 413, a buffer waits for it."""
    size = f"{LARGE_BODY // 2**30} GiB"
    try:
        heard = announce(url, LARGE_BODY)
    except Silent:
        yield warning(
            "body", f"something between collects a whole upload before it passes it on (seen with one of {size})",
            "turn that off (nginx: proxy_request_buffering off): pushes need its disk, and run into its time limits",
        )  # fmt: skip
        return
    if heard.status == 413 and not heard.is_ours:
        yield error(
            "body", f"a layer of {size} is refused with 413 before it reaches the registry",
            "lift the limit in the proxy (nginx: client_max_body_size 0)",
        )  # fmt: skip
    elif not heard.is_ours:
        yield error("body", f"an upload is answered with {heard.status} on its way", "let the proxy pass every method")
    else:
        yield ok("body", f"a layer of {size} may pass, and is passed on as it comes")


def ask(url: str, method: str, path: str, headers: Mapping[str, str] | None = None) -> Heard:
    """One request, no redirect, no body. Raises NoAnswer."""
    began = time.monotonic()
    with _sent(url, method, path, headers or {}) as connection:
        answer = connection.getresponse()
        return Heard(answer.status, answer.headers, answer.read(2**20), time.monotonic() - began)


def announce(url: str, length: int) -> Heard:
    """A POST that says how long its body is and sends a trickle of it: a proxy that passes bytes on as they come may
    look for an answer only between two of them. Raises NoAnswer."""
    began, heard = time.monotonic(), b""
    with _sent(url, "POST", _NOBODY, {"Content-Length": str(length)}) as connection:
        connection.sock.settimeout(_TRICKLE_SECONDS)
        while b"\r\n\r\n" not in heard:
            if time.monotonic() > began + BODY_SECONDS:
                raise Silent
            try:
                piece = connection.sock.recv(2**16)
            except TimeoutError:
                connection.sock.sendall(bytes(1024))
                continue
            if not piece:
                raise ConnectionError("the connection was closed")
            heard += piece
    line, _, rest = heard.partition(b"\r\n")
    return Heard(int(line.split()[1]), http.client.parse_headers(io.BytesIO(rest)), b"", time.monotonic() - began)


@contextmanager
def _sent(url: str, method: str, path: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPConnection]:
    """A request whose head is on its way. The certificate was looked at before; here any is taken."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # no secret is sent
        connection = http.client.HTTPSConnection(parts.netloc, timeout=ANSWER_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWER_SECONDS)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in {"User-Agent": "regserver-doctor", **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        yield connection
    except (OSError, http.client.HTTPException, ValueError) as failed:
        raise NoAnswer(_reason(failed)) from None
    finally:
        connection.close()


def _reason(failed: Exception) -> str:
    if isinstance(failed, TimeoutError):
        return "no answer in time"
    text = (failed.strerror if isinstance(failed, OSError) else None) or str(failed) or type(failed).__name__
    return plain(re.sub(r"^\[[^]]*\] ", "", text))
