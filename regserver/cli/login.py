"""``regserver login``: a person's token for these commands, and docker's login with it or as a registry's robot."""

from __future__ import annotations

import argparse
import base64
import getpass
import sys
from dataclasses import replace
from urllib.parse import urlsplit

from regserver.cli import settings
from regserver.cli.api import Api
from regserver.cli.docker import DockerConfig
from regserver.cli.exits import DENIED, USAGE, CommandError
from regserver.cli.parsing import Command, argument
from regserver.cli.session import Session, is_interactive
from regserver.cli.words import plain
from regserver.config import is_loopback

ADMIN = "admin"
_AT = "the server; like --server"


def login(session: Session, options: argparse.Namespace) -> None:
    """With ``--registry`` docker alone is logged in, with the token that is there already."""
    options.server = options.at or options.server
    if options.registry is not None:
        return _login_robot(session, options.registry)
    return _login_person(session, options)


def _login_robot(session: Session, registry: str) -> None:
    given = session.api.get(f"{session.registry_path(registry)}/credentials")
    _store(session, given["endpoint"], given["username"], given["password"])


def _login_person(session: Session, options: argparse.Namespace) -> None:
    """Nothing is saved before the server has taken the token."""
    found = settings.resolve(options.server, options.token, session.environment)
    given = found.token if found.source in ("--token", settings.TOKEN_VARIABLE) else None
    token = _typed(found.server, given, options)
    if token is not None and not _is_private(found.server):
        session.out.note(f"warning: {found.server} is plain HTTP; who listens on the way reads the token")
    api = Api(found.server, token, "this login")
    registries = api.pages("/registries", None, 1)
    saved = settings.load(session.environment).with_login(found.server, token)
    file = settings.save(saved, session.environment)
    session.out.say(f"logged in at {found.server} ({file})")
    if token is None:
        session.out.say("this server is open: neither these commands nor docker need a token")
    elif not options.no_docker:
        host = str(registries[0]["endpoint"]).partition("/")[0] if registries else urlsplit(found.server).netloc
        _login_docker(session, api, host)


def _is_private(server: str) -> bool:
    parts = urlsplit(server)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def _typed(server: str, given: str | None, options: argparse.Namespace) -> str | None:
    """The token by flag, variable, stdin or keyboard; None for a server that needs none."""
    if options.token_stdin:
        return settings.checked(sys.stdin.readline(), "stdin")
    if given is not None:
        return given
    try:
        Api(server, None).get("/registries", {"per_page": "1"})
    except CommandError as error:
        if error.code != DENIED:
            raise
    else:
        return None
    if not is_interactive():
        raise CommandError("no token was given", USAGE, hint="pass it on stdin: regserver login --token-stdin < FILE")
    try:
        typed = getpass.getpass(f"API token for {server}: ", sys.stderr)
    except EOFError:
        raise CommandError("no token was given") from None
    return settings.checked(typed, "the token")


def _login_docker(session: Session, api: Api, host: str) -> None:
    """The administrator's token is a password for docker too; a token of narrower scope is for the API alone."""
    basic = base64.b64encode(f"{ADMIN}:{api.token}".encode()).decode()
    status = api.answers("/v2/", {"Authorization": f"Basic {basic}"})
    if status == 200:
        _store(session, host, ADMIN, api.token or "")
    elif status == 401:
        session.out.say("this token is not for docker; `regserver login --registry NAME` logs it in as a robot")
    else:
        session.out.say(f"docker is not logged in: /v2/ answers {status}; try again later")


def _store(session: Session, host: str, username: str, password: str) -> None:
    """A server may have another name for docker (``--public-url``): it is noted, so that logout finds it."""
    where = DockerConfig(session.environment).store(host, username, password)
    server = session.api.server
    saved = settings.load(session.environment)
    if host != urlsplit(server).netloc:
        settings.save(replace(saved, docker={**saved.docker, server: host}), session.environment)
    session.out.say(f"docker is logged in at {plain(host)} as {plain(username)} ({where})")


def logout(session: Session, options: argparse.Namespace) -> None:
    """Forgets on this machine only: the token stays good until it is deleted."""
    options.server = options.at or options.server
    server = settings.resolve(options.server, None, {**session.environment, settings.TOKEN_VARIABLE: ""}).server
    saved = settings.load(session.environment)
    known = server in saved.tokens or saved.server == server
    if known or server in saved.docker:
        settings.save(saved.without(server), session.environment)
    host = saved.docker.get(server, urlsplit(server).netloc)
    docker = False if options.no_docker else DockerConfig(session.environment).erase(host)
    said = f"logged out at {server}" if known else f"you were not logged in at {server}"
    session.out.say(f"{said}; docker is logged out too" if docker else said)


_SERVER = argument("at", metavar="SERVER", nargs="?", help=_AT)

LOGIN = Command(
    "login",
    "log in at a server: the token is saved for these commands, and docker is logged in",
    "regserver login https://registry.example.com --token-stdin < admin-token",
    login,
    (
        _SERVER,
        argument("--registry", metavar="NAME", help="log in docker alone, as this registry's robot"),
        argument("--token-stdin", action="store_true", help="read the token from the first line of stdin"),
        argument("--no-docker", action="store_true", help="leave docker's config alone"),
    ),
)
LOGOUT = Command(
    "logout",
    "forget the token on this machine, and log docker out",
    "regserver logout https://registry.example.com",
    logout,
    (_SERVER, argument("--no-docker", action="store_true", help="leave docker's config alone")),
)
COMMANDS = (LOGIN,)
