"""Addresses of the console's pages. Names stand in the query: no proxy on the way reads a slash in them differently."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from regserver.console import ROOT


def home(said: str | None = None) -> str:
    return _with(f"{ROOT}/", {"said": said})


def sign_in(following: str | None = None) -> str:
    return _with(f"{ROOT}/sign-in", {"next": following})


def sign_out() -> str:
    return f"{ROOT}/sign-out"


def activity() -> str:
    return f"{ROOT}/activity"


def events(after: int) -> str:
    return f"{ROOT}/events?after={after}"


def static(name: str) -> str:
    return f"{ROOT}/static/{name}"


def registry(registry_id: str, page: str = "", **query: str | int | None) -> str:
    """A page of a registry: ``access``, ``settings``, ``collection``, ``audit``, ``image`` …"""
    return _with(f"{ROOT}/registries/{registry_id}{'/' + page if page else ''}", query)


def image(registry_id: str, name: str, **query: str | int | None) -> str:
    return registry(registry_id, "image", image=name, **query)


def manifest(registry_id: str, name: str, reference: str, **query: str | int | None) -> str:
    return registry(registry_id, "manifest", image=name, ref=reference, **query)


def history(registry_id: str, name: str, tag: str) -> str:
    return registry(registry_id, "history", image=name, tag=tag)


def layer(registry_id: str, name: str, digest: str, **query: str | int | None) -> str:
    return registry(registry_id, "layer", image=name, digest=digest, **query)


def _with(path: str, query: Mapping[str, str | int | None]) -> str:
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
