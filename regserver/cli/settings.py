"""Which server and which token: flags beat the environment, which beats what ``regserver login`` has saved.

The file is ``regserver/config.toml`` in XDG_CONFIG_HOME or ~/.config, mode 0600::

    server = "https://registry.example.com"

    [tokens]
    "https://registry.example.com" = "rsv_…"

    [docker]
    "https://registry.example.com" = "registry.example.com"
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from regserver.cli.exits import FAILED, USAGE, CommandError
from regserver.cli.files import NoHome, home, write_private
from regserver.config import is_loopback

SERVER_VARIABLE, TOKEN_VARIABLE = "REGSERVER_SERVER", "REGSERVER_TOKEN"
DEFAULT_SERVER = "http://127.0.0.1:5000"


@dataclass(frozen=True, slots=True)
class Saved:
    """What the file holds. A token is only ever sent to the server that it was saved for."""

    server: str | None = None
    tokens: Mapping[str, str] = field(default_factory=dict)
    docker: Mapping[str, str] = field(default_factory=dict)  # where docker is logged in, as its config names it

    def with_login(self, server: str, token: str | None) -> Saved:
        others = {name: kept for name, kept in self.tokens.items() if name != server}
        return replace(self, server=server, tokens=others if token is None else {**others, server: token})

    def without(self, server: str) -> Saved:
        tokens = {name: kept for name, kept in self.tokens.items() if name != server}
        docker = {name: host for name, host in self.docker.items() if name != server}
        return Saved(None if self.server == server else self.server, tokens, docker)


class Login(NamedTuple):
    server: str
    token: str | None
    source: str  # of the token, for people


def path(environment: Mapping[str, str]) -> Path:
    """Raises NoHome."""
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else home() / ".config") / "regserver" / "config.toml"


def resolve(server: str | None, token: str | None, environment: Mapping[str, str]) -> Login:
    """Raises CommandError for a server that is none, or a file that cannot be used."""
    saved = load(environment)
    chosen = server_url(server or environment.get(SERVER_VARIABLE) or saved.server or DEFAULT_SERVER)
    if token:
        return Login(chosen, checked(token, "--token"), "--token")
    if environment.get(TOKEN_VARIABLE):
        return Login(chosen, checked(environment[TOKEN_VARIABLE], TOKEN_VARIABLE), TOKEN_VARIABLE)
    return Login(chosen, saved.tokens.get(chosen), str(path(environment)) if saved.tokens else "")


def server_url(text: str) -> str:
    """``https://host[:port]``, lower case, no slash at the end. Without a scheme: https, or http on this machine."""
    text = text.strip()
    if "://" not in text:
        scheme = "http" if is_loopback(urlsplit(f"//{text}").hostname or "") else "https"
        text = f"{scheme}://{text}"
    parts = urlsplit(text)
    try:
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if (
        not good
        or "@" in parts.netloc
        or parts.path not in {"", "/"}
        or parts.query
        or not re.fullmatch(r"[!-~]+", text)
    ):
        raise CommandError("the server must be http(s)://HOST[:PORT], such as https://registry.example.com", USAGE)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def load(environment: Mapping[str, str]) -> Saved:
    """An empty one where there is no file, or no home for it."""
    try:
        file = path(environment)
    except NoHome:
        return Saved()
    try:
        document = tomllib.loads(file.read_text("utf-8"))
        mode = file.stat().st_mode
    except FileNotFoundError:
        return Saved()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    except ValueError:
        raise _unusable(file) from None
    server, tokens, docker = (document.get(name, {}) for name in ("server", "tokens", "docker"))
    if not isinstance(server or "", str) or not isinstance(tokens, dict) or not isinstance(docker, dict):
        raise _unusable(file)
    if tokens and mode & 0o077:
        raise CommandError(f"{file}: others may read the tokens in it", hint=f"run: chmod 600 {file}")
    return Saved(server or None, _texts(tokens), _texts(docker))


def save(saved: Saved, environment: Mapping[str, str]) -> Path:
    file = path(environment)
    lines = ["# Written by regserver login."]
    if saved.server is not None:
        lines.append(f"server = {json.dumps(saved.server)}")
    for title, table in (("tokens", saved.tokens), ("docker", saved.docker)):
        if table:
            lines += ["", f"[{title}]"]
            lines += [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in sorted(table.items())]
    write_private(file, "\n".join(lines) + "\n")
    return file


def checked(token: str, source: str) -> str:
    """A token is one line of printable ASCII: it goes into a header."""
    token = token.strip()
    if not token or not all("!" <= character <= "~" for character in token):
        raise CommandError(f"{source}: a token is printable ASCII without spaces", USAGE)
    return token


def _texts(table: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in table.items()}


def _unusable(file: Path) -> CommandError:
    return CommandError(
        f"{file}: not what regserver login writes", FAILED, hint=f"remove it and log in again: rm {file}"
    )
