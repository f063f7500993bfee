"""Docker's config.json: what ``docker login`` would have written, for docker, podman, skopeo, crane and oras alike."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regserver.cli.exits import CommandError
from regserver.cli.files import home, write_private
from regserver.cli.words import plain

_HELPER_SECONDS = 60.0


class DockerConfig:
    """The file as it is now. Every entry but the host's own stays as it was."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        folder = environment.get("DOCKER_CONFIG")
        self.file = (Path(folder) if folder else home() / ".docker") / "config.json"
        self._document = self._read()

    def helper(self, host: str) -> str | None:
        """The program that keeps this host's password instead of the file: ``credHelpers`` before ``credsStore``."""
        helpers = self._document.get("credHelpers")
        name = (helpers.get(host) if isinstance(helpers, dict) else None) or self._document.get("credsStore")
        return f"docker-credential-{name}" if isinstance(name, str) and name else None

    def login(self, host: str) -> tuple[Mapping[str, Any], bool]:
        """What docker would log in with, in the words of its file: ``username`` and ``password``, or ``auth``, or
        ``identitytoken``, or ``registrytoken``; and whether there is anything. Raises CommandError for a helper
        that does not work."""
        helper, entry = self.helper(host), self._entries().get(host)
        if helper is not None:
            said = self._run(helper, "get", host, absent_is_fine=True)
            found = json.loads(said) if said else {}
            name, secret = str(found.get("Username", "")), found.get("Secret")
            entry = {"identitytoken": secret} if name == "<token>" else {"username": name, "password": secret}
            return entry, secret is not None
        return (entry, bool(entry)) if isinstance(entry, dict) else ({}, False)

    def store(self, host: str, username: str, password: str) -> str:
        """Logs docker in at ``host``; says where the password is now. Raises CommandError, then nothing has changed."""
        helper = self.helper(host)
        if helper is None:
            auth = base64.b64encode(f"{username}:{password}".encode()).decode()
            self._entries()[host] = {"auth": auth}
            self._write()
            return str(self.file)
        request = json.dumps({"ServerURL": host, "Username": username, "Secret": password})
        self._run(helper, "store", request, secret=password)
        self._entries()[host] = {}  # as docker does: the host is known, its password is the helper's
        self._write()
        return helper

    def erase(self, host: str) -> bool:
        """Logs docker out; False where it was not logged in."""
        helper = self.helper(host)
        known = host in self._entries()
        if helper is not None and known:
            self._run(helper, "erase", host)
        if known:
            del self._entries()[host]
            self._write()
        return known

    def _entries(self) -> dict[str, Any]:
        entries: dict[str, Any] = self._document.setdefault("auths", {})
        return entries

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self.file.read_text("utf-8") or "{}")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CommandError(f"{self.file}: {error.strerror}") from None
        except ValueError:
            raise self._unusable() from None
        if not isinstance(document, dict) or not isinstance(document.get("auths", {}), dict):
            raise self._unusable()
        return document

    def _write(self) -> None:
        write_private(self.file, json.dumps(self._document, indent="\t") + "\n")

    def _unusable(self) -> CommandError:
        return CommandError(
            f"{self.file} is not a config of docker; nothing was changed in it",
            hint="repair it, or let DOCKER_CONFIG name another folder",
        )

    def _run(self, helper: str, action: str, given: str, secret: str = "", *, absent_is_fine: bool = False) -> str:
        """One call of docker's credential helper protocol: the request on stdin, never in an argument.

        What a helper says when it fails may repeat what it was given: ``secret`` is taken out of it. Returns what it
        says when it succeeds; with ``absent_is_fine`` nothing where it knows no credentials.
        """
        program = shutil.which(helper)
        hint = f"install it, or take its name out of credsStore and credHelpers in {self.file}"
        if program is None:
            raise CommandError(f"docker keeps passwords in {helper}, which is not on PATH", hint=hint)
        try:
            done = subprocess.run(  # noqa: S603 - the program that the user's own docker runs
                [program, action], input=given, text=True, capture_output=True, timeout=_HELPER_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise CommandError(f"{helper} {action} does not end", hint=hint) from None
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            if absent_is_fine and "credentials not found" in said:
                return ""
            said = plain(said.replace(secret, "…") if secret else said)[:200]
            raise CommandError(f"{helper} {action} failed: {said}", hint=hint)
        return done.stdout
