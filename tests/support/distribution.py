"""Debian's `docker-registry`, the registry that most people have: started on a free port of 127.0.0.1."""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from support.clients import find
from support.served import Account

USERNAME, PASSWORD = "somebody", "a-password-of-the-tests"
_HTPASSWD = f"{USERNAME}:$2b$04$Dfmbn1uQSKQG.opzhtOI1uygzQSNL4p6HEogkD1oAIiqPufaqTHRq\n"  # of that password
_LISTENS = re.compile(r"listening on (127\.0\.0\.1:\d+)")
_START_SECONDS = 30.0


@contextlib.contextmanager
def docker_registry(folder: Path, *, login: bool = False, token: Mapping[str, str] | None = None) -> Iterator[Account]:
    """A running one and how to log in there. ``token`` are the parameters of its `auth.token`."""
    folder.mkdir()
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0"},
    }
    if login:
        (folder / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    if token:
        config["auth"] = {"token": dict(token)}
    (folder / "config.yml").write_text(json.dumps(config))  # YAML is a superset
    log = folder / "log"
    with log.open("wb") as output:
        command = [find("docker-registry"), "serve", str(folder / "config.yml")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield Account(USERNAME, PASSWORD, _address(process, log))
    finally:
        process.kill()
        process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if found := _LISTENS.search(log.read_text(errors="replace")):
            return found[1]
        time.sleep(0.02)
    raise RuntimeError(f"docker-registry did not start:\n{log.read_text(errors='replace')[-3000:]}")
