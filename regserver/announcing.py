"""What a server says when it serves: where it listens, and what a person does next."""

from __future__ import annotations

import os
import shlex
import sys

from regserver.auth import admin
from regserver.config import Settings

Address = tuple[str, int]


class ServeFailed(Exception):
    """The server cannot listen as told. One line, made for stderr."""


def cannot_listen(settings: Settings, error: OSError) -> ServeFailed:
    return ServeFailed(f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}")


def url_of(settings: Settings, address: Address) -> str:
    return f"{'https' if settings.tls_cert else 'http'}://{host_of(address)}"


def host_of(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def announce(settings: Settings, address: Address) -> None:
    """On stdout. Never a secret: only where it is."""
    host = host_of(address)
    if settings.dev:
        host = host.replace("127.0.0.1:", "localhost:").replace("[::1]:", "localhost:")
        lines = [
            f"push   docker tag alpine {host}/my-images/alpine:v1 && docker push {host}/my-images/alpine:v1",
            f"pull   docker pull {host}/my-images/alpine:v1",
            f"stop   Ctrl-C; the data stays in {settings.root.resolve()}",
        ]
    else:
        public = settings.public_url.partition("://")[2] if settings.public_url else host
        lines = [f"login  docker login -u admin --password-stdin {public} {_token_source(settings)}"]
    sys.stdout.write("".join(f"  {line}\n" for line in lines))
    sys.stdout.flush()


def _token_source(settings: Settings) -> str:
    """A shell's redirection that gives the administrator's token."""
    if settings.admin_token_file is None and admin.VARIABLE in os.environ:
        return f'<<< "${admin.VARIABLE}"'
    return f"< {shlex.quote(str((settings.admin_token_file or settings.root / admin.FILE).resolve()))}"
