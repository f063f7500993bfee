"""``regserver import --from``: what another registry holds, with all tags, into this server."""

from __future__ import annotations

import argparse
import base64
import binascii
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from regserver.cli import settings
from regserver.cli.challenges import Credentials
from regserver.cli.copying import Crew, ImageCopy, Tally
from regserver.cli.distribution import Repository
from regserver.cli.docker import DockerConfig
from regserver.cli.exits import FAILED, INTERRUPTED, NOT_FOUND, UNREACHABLE, USAGE, CommandError
from regserver.cli.parsing import argument
from regserver.cli.progress import progress
from regserver.cli.registries import make_registry
from regserver.cli.remote import Remote
from regserver.cli.session import Session
from regserver.cli.words import amount, count, plain, size
from regserver.errors import RegistryError
from regserver.model.names import RepositoryName, Tag

_JOBS = 4
_FAILURES_SHOWN = 20
_HUB = "https://index.docker.io/v1/"  # docker's own name for docker.io in its config
_HUB_HOSTS, _HUB_SERVER = frozenset({"docker.io", "index.docker.io"}), "https://registry-1.docker.io"
_SPECIAL = frozenset("*?[")

EXAMPLES = (
    "regserver import --from http://old.example.com:5000",
    "regserver import --from https://old.example.com --image 'team/*' --tag 'v*' --into my-images",
)
ARGUMENTS = (
    argument(
        "--from", dest="source_registry", metavar="URL", help="copy this registry instead, each image under its name"
    ),
    argument("--into", metavar="REGISTRY", help="put all images below this registry; else a name's first part is it"),
    argument("--image", dest="images", action="append", metavar="GLOB", help="only these images; may be repeated"),
    argument("--tag", dest="tags", action="append", metavar="GLOB", help="only these tags; may be repeated"),
    argument("--keep", action="store_true", help="leave tags as they are that name something else here"),
    argument("--dry-run", action="store_true", help="say what would be copied; copy nothing"),
    argument("--jobs", metavar="N", type=count, help=f"so many transfers at once (default: {_JOBS})"),
    argument("--from-username", metavar="NAME", help="at the other registry; else as docker is logged in there"),
    argument("--from-password-stdin", action="store_true", help="read the password for it from stdin"),
    argument("--from-token-stdin", action="store_true", help="read a bearer token for it from stdin"),
)
# Of the above what means nothing without --from: where it is kept → how it is written.
FLAGS = {one.options.get("dest", one.flags[0][2:].replace("-", "_")): one.flags[0] for one in ARGUMENTS[1:]}


@dataclass(frozen=True, slots=True)
class Failure:
    name: str  # of the image, or the tag
    error: CommandError


@dataclass(frozen=True, slots=True)
class _Found:
    """An image of the source: its name there and here, all tags, and those that are wanted."""

    name: str
    target: RepositoryName
    tags: Sequence[str]
    chosen: Sequence[str]


def import_registry(session: Session, options: argparse.Namespace) -> None:
    """Image after image, several tags at once. What fails is left out and named at the end; exit code 1 then."""
    began = time.monotonic()
    server = settings.server_url(options.source_registry)
    if urlsplit(server).netloc in _HUB_HOSTS:
        server = _HUB_SERVER
    source = Remote(server, _credentials(session, options, server))
    names = _names(source, options.images)
    if options.dry_run:
        return _say_what_would(session, source, names, options)
    with progress() as show:
        run = _Run(session, source, options, Tally(show))
        run.all(names)
    return _report(session, run, len(names), time.monotonic() - began)


class _Run:
    def __init__(self, session: Session, source: Remote, options: argparse.Namespace, tally: Tally) -> None:
        self.tally = tally
        self.failures: list[Failure] = []
        self._session, self._source, self._options = session, source, options
        self._targets = _Targets(session)
        self._jobs = options.jobs or _JOBS
        self._crew = Crew(self._jobs)
        self._running: dict[Future[None], str] = {}

    def all(self, names: Sequence[str]) -> None:
        """Raises CommandError where going on makes no sense; run again, it goes on from there."""
        try:
            for number, name in enumerate(names, 1):
                found = self._begin(name)
                if found is not None:
                    counted = amount(len(found.chosen), "tag")
                    self._session.out.note(f"[{number}/{len(names)}] {plain(name)}: {counted}")
            self._settle(0)
        finally:
            self._crew.stop()

    def _begin(self, name: str) -> _Found | None:
        try:
            found = _found(self._source, name, self._options)
            target = self._targets.repository(found.target) if found.chosen else None
        except CommandError as error:
            self._fail(name, error)
            return None
        if target is not None:
            copy = ImageCopy(
                self._source, name, target, found.tags, found.chosen, self._crew, self.tally, keep=self._options.keep
            )
            for tag in found.chosen:
                self._settle(self._jobs * 4)
                self._running[self._crew.tags.submit(copy.copy_tag, tag)] = f"{name}:{tag}"
        return found

    def _settle(self, most: int) -> None:
        """Waits until at most so many tags are under way."""
        while len(self._running) > most:
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for one in done:
                name = self._running.pop(one)
                try:
                    one.result()
                except CommandError as error:
                    self._fail(name, error)

    def _fail(self, name: str, error: CommandError) -> None:
        if error.code in {UNREACHABLE, INTERRUPTED}:
            hint = "run the same command again when it is back: what has been copied stays, and is not copied again"
            raise CommandError(f"{plain(name)}: {error.message}", error.code, hint=hint)
        self.failures.append(Failure(name, error))


class _Targets:
    """The images here, each as its registry's own robot. A registry that is not there is made."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, tuple[str, str | None]] = {}

    def repository(self, name: RepositoryName) -> Repository:
        api = self._session.api
        if api.token is None:  # --dev: open, and made by the first push
            return Repository(api.server, str(name))
        if name.registry not in self._known:
            self._known[name.registry] = self._account(name.registry)
        username, password = self._known[name.registry]
        return Repository(api.server, str(name), username, password)

    def _account(self, registry: str) -> tuple[str, str]:
        try:
            found = self._session.registry(registry)
        except CommandError as error:
            if error.code != NOT_FOUND:
                raise
            found = make_registry(self._session, {"name": registry, "public": False})
            self._session.out.note(f"{plain(registry)}: a new registry, private")
        given = self._session.api.get(f"/registries/{found['id']}/credentials")
        return str(given["username"]), str(given["password"])


def _found(source: Remote, name: str, options: argparse.Namespace) -> _Found:
    """Raises CommandError for a name that cannot be one here."""
    try:
        target = RepositoryName.parse(f"{options.into}/{name}" if options.into else name)
    except RegistryError:
        hint = (
            "tags are chosen with --tag" if ":" in name else "--into REGISTRY puts it below a registry of your choice"
        )
        raise CommandError(f"{plain(name[:80])} is no name for an image here", USAGE, hint=hint) from None
    tags = [tag for tag in source.tags(name) if _is_tag(tag)]
    return _Found(name, target, tags, [tag for tag in tags if _matches(tag, options.tags)])


def _names(source: Remote, wanted: Sequence[str] | None) -> list[str]:
    """Of the images to copy. A registry is asked for its list only where a name has to be looked for."""
    if wanted and not any(_SPECIAL & set(name) for name in wanted):
        return list(dict.fromkeys(wanted))
    names = [name for name in dict.fromkeys(source.catalog()) if _matches(name, wanted)]
    if not names:
        raise CommandError(
            f"{source.server} has no image" + (" of these names" if wanted else ""), NOT_FOUND,
            hint="a registry lists only what this login may see; without --image all of them are copied",
        )  # fmt: skip
    return names


def _matches(name: str, patterns: Sequence[str] | None) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_tag(text: str) -> bool:
    try:
        Tag.parse(text)
    except RegistryError:
        return False
    return True


def _credentials(session: Session, options: argparse.Namespace, server: str) -> Credentials:
    """Flags, else docker's login there, else none. A secret comes on stdin: others can read arguments."""
    if options.from_token_stdin:
        return Credentials(bearer=settings.checked(sys.stdin.readline(), "--from-token-stdin"))
    if options.from_password_stdin != (options.from_username is not None):
        raise CommandError("--from-username and --from-password-stdin belong together", USAGE)
    if options.from_username is not None:
        return Credentials(options.from_username, sys.stdin.readline().rstrip("\r\n"))
    host = urlsplit(server).netloc
    keys = (host, server, f"{server}/v1/", *((_HUB,) if host.endswith("docker.io") else ()))
    config = DockerConfig(session.environment)
    for key in keys:
        entry, is_there = config.login(key)
        if is_there:
            return _of_docker(entry)
    return Credentials()


def _of_docker(entry: Any) -> Credentials:
    username, password = entry.get("username", ""), entry.get("password")
    if entry.get("auth"):
        try:
            username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except (ValueError, binascii.Error):
            raise CommandError(
                "docker's config holds a login that cannot be read", hint="docker login there again"
            ) from None
    return Credentials(username, password or None, entry.get("registrytoken"), entry.get("identitytoken") or None)


def _say_what_would(session: Session, source: Remote, names: Sequence[str], options: argparse.Namespace) -> None:
    rows = []
    for found in _each(source, names, options):
        rows.append({"source": found.name, "image": str(found.target), "tags": list(found.chosen)})
        session.out.say(f"{plain(found.name)} → {plain(str(found.target))}: {plain(', '.join(found.chosen))}")
    if session.out.as_json:
        return session.out.data(rows)
    return session.out.note(f"{amount(len(rows), 'image')}; nothing was copied")


def _each(source: Remote, names: Sequence[str], options: argparse.Namespace) -> Iterator[_Found]:
    for name in names:
        found = _found(source, name, options)
        if found.chosen:
            yield found


def _report(session: Session, run: _Run, images: int, seconds: float) -> None:
    tally = run.tally
    if session.out.as_json:
        failed = [{"name": one.name, "message": one.error.message} for one in run.failures]
        session.out.data(
            {"images": images, "copied": tally.copied, "there": tally.there, "kept": tally.kept, "failed": failed,
             "blobs": tally.blobs, "bytes": tally.bytes}
        )  # fmt: skip
    for one in run.failures[:_FAILURES_SHOWN]:
        hint = f" ({one.error.hint})" if one.error.hint else ""
        session.out.note(f"not copied: {plain(one.name)}: {plain(one.error.message)}{hint}")
    if len(run.failures) > _FAILURES_SHOWN:
        session.out.note(f"… and {len(run.failures) - _FAILURES_SHOWN} more; --json lists all")
    for digest in dict.fromkeys(tally.absent):
        session.out.note(f"{plain(digest)} is not in the source, and so not here")
    kept = f", {tally.kept} kept as they are" if tally.kept else ""
    session.out.say(
        f"{amount(images, 'image')}: {amount(tally.copied, 'tag')} copied, {tally.there} there already{kept}; "
        f"{amount(tally.blobs, 'blob')}, {size(tally.bytes)} in {seconds:.0f} s"
    )
    if run.failures:
        raise CommandError(
            f"{amount(len(run.failures), 'name')} could not be copied", FAILED,
            hint="run the same command again: it copies what is missing and nothing else",
        )  # fmt: skip
