"""The real container clients, each behind the same few verbs, each with a configuration folder of its own.

`push` and `pull` name images as the client does (`host/registry/image:tag`). `pull` returns what arrived: the digest of
the image's config, and of the manifest where the client keeps the manifest's bytes.
"""

import abc
import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.layouts import INDEX, TAG, Layout, docker_archive, open_layout
from support.served import Account

PROJECT = Path(__file__).resolve().parents[2]
SEARCH = os.pathsep.join([str(PROJECT / ".tools" / "bin"), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
SECONDS = 240
NO_CREDENTIALS = '{"auths": {}}'


class Missing(Exception):
    """A client is not installed."""


def find(command: str) -> str:
    """Where the client is; raises Missing with the command that installs it."""
    found = shutil.which(command, path=SEARCH)
    if found is None:
        raise Missing(f"{command} is not installed: run `make clients` (or tools/setup-clients {command})")
    return found


@dataclasses.dataclass(frozen=True)
class Result:
    """How a client's command ended."""

    command: Sequence[str]
    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    @property
    def ok(self) -> bool:
        return self.code == 0

    def check(self) -> "Result":
        """Itself; AssertionError with the output if the command failed."""
        assert self.ok, f"`{' '.join(self.command)}` ended with {self.code}:\n{self.output}"
        return self


@dataclasses.dataclass(frozen=True)
class Pulled:
    config: str
    manifest: str | None


class Client(abc.ABC):
    """One client, with a home folder of its own and thus its own credentials, storage and caches."""

    name: str

    def __init__(self, home: Path) -> None:
        self.home = home
        self.home.mkdir(parents=True, exist_ok=True)
        self.program = find(self.name)
        self._count = 0

    @property
    def environment(self) -> Mapping[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        home = str(self.home)
        return {**kept, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_RUNTIME_DIR": home, "DOCKER_CONFIG": home}

    def run(self, *arguments: str | Path, stdin: str | None = None) -> Result:
        """The client with these arguments."""
        command = [self.program, *self.globals, *map(str, arguments)]
        done = subprocess.run(
            command, env=self.environment, cwd=self.home, input=stdin, capture_output=True, text=True, timeout=SECONDS
        )
        return Result(command, done.returncode, done.stdout, done.stderr)

    @property
    def globals(self) -> Sequence[str]:
        """Options before the verb."""
        return ()

    def folder(self) -> Path:
        """A name for a new folder."""
        self._count += 1
        return self.home / f"work-{self._count}"

    @abc.abstractmethod
    def login(self, account: Account) -> Result: ...

    @abc.abstractmethod
    def push(self, image: Layout, target: str) -> Result: ...

    @abc.abstractmethod
    def try_pull(self, source: str) -> Result:
        """Pull into a place that held nothing of it before."""

    @abc.abstractmethod
    def pulled(self, source: str) -> Pulled:
        """What the last successful `try_pull` brought; AssertionError if bytes differ from their digests."""

    @abc.abstractmethod
    def copy(self, source: str, target: str) -> Result:
        """Bring an image that this client pushed to `source` also to `target`, on the same registry."""

    def pull(self, source: str) -> Pulled:
        self.try_pull(source).check()
        return self.pulled(source)


class LayoutClient(Client):
    """A client that pulls into an image layout and keeps every byte."""

    target: Path

    def pulled(self, source: str) -> Pulled:
        layout = open_layout(self.target)
        assert layout.digests, "nothing was pulled"
        root = layout.manifest()
        first = root if root.get("mediaType") != INDEX else layout.manifest(root["manifests"][0]["digest"])
        return Pulled(first["config"]["digest"], layout.root)


class Crane(LayoutClient):
    name = "crane"

    def login(self, account: Account) -> Result:
        arguments = ("auth", "login", account.host, "-u", account.username, "--password-stdin")
        return self.run(*arguments, stdin=account.password)

    def push(self, image: Layout, target: str) -> Result:
        if "manifests" not in image.manifest():
            return self.run("push", image.path, target)
        opened = self.folder()  # crane pushes the folder's own index.json as the index
        shutil.copytree(image.path, opened)
        (opened / "index.json").write_bytes(image.read(image.root))
        return self.run("push", "--index", opened, target)

    def try_pull(self, source: str) -> Result:
        self.target = self.folder()
        return self.run("pull", "--format=oci", source, self.target)

    def copy(self, source: str, target: str) -> Result:
        return self.run("copy", source, target)


class Skopeo(LayoutClient):
    name = "skopeo"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.authfile.write_text(NO_CREDENTIALS)

    @property
    def authfile(self) -> Path:
        return self.home / "auth.json"

    def login(self, account: Account) -> Result:
        arguments = ("login", "--authfile", self.authfile, "--tls-verify=false", "-u", account.username)
        return self.run(*arguments, "--password-stdin", account.host, stdin=account.password)

    def push(self, image: Layout, target: str) -> Result:
        return self._copy(f"oci:{image.path}:{TAG}", f"docker://{target}", "--dest-tls-verify=false")

    def try_pull(self, source: str) -> Result:
        self.target = self.folder()
        return self._copy(f"docker://{source}", f"oci:{self.target}:{TAG}", "--src-tls-verify=false")

    def copy(self, source: str, target: str) -> Result:
        options = ("--src-tls-verify=false", "--dest-tls-verify=false")
        return self._copy(f"docker://{source}", f"docker://{target}", *options)

    def _copy(self, source: str, target: str, *options: str) -> Result:
        return self.run("copy", "--all", "--preserve-digests", "--authfile", self.authfile, *options, source, target)


class Oras(LayoutClient):
    name = "oras"

    @property
    def config(self) -> Path:
        return self.home / "config.json"

    def login(self, account: Account) -> Result:
        arguments = ("login", "--registry-config", self.config, "--plain-http", "-u", account.username)
        return self.run(*arguments, "--password-stdin", account.host, stdin=account.password)

    def push(self, image: Layout, target: str) -> Result:
        options = ("--from-oci-layout", "--to-plain-http", "--to-registry-config", self.config)
        return self.run("cp", *options, f"{image.path}:{TAG}", target)

    def try_pull(self, source: str) -> Result:
        self.target = self.folder()
        options = ("--to-oci-layout", "--from-plain-http", "--from-registry-config", self.config)
        return self.run("cp", *options, source, f"{self.target}:{TAG}")

    def copy(self, source: str, target: str) -> Result:
        plain = ("--from-plain-http", "--to-plain-http")
        configs = ("--from-registry-config", self.config, "--to-registry-config", self.config)
        return self.run("cp", *plain, *configs, source, target)

    def registry(self, *arguments: str | Path) -> Result:
        """A verb that talks to one registry (`attach`, `discover`, `push`, `manifest delete`, …)."""
        return self.run(*arguments, "--plain-http", "--registry-config", self.config)


class Regctl(LayoutClient):
    name = "regctl"

    @property
    def environment(self) -> Mapping[str, str]:
        return {**super().environment, "REGCTL_CONFIG": str(self.home / "regctl.json")}

    def over_http(self, host: str) -> None:
        self.run("registry", "set", "--skip-check", "--tls", "disabled", host).check()

    def login(self, account: Account) -> Result:
        self.over_http(account.host)
        arguments = ("registry", "login", account.host, "-u", account.username, "--pass-stdin")
        return self.run(*arguments, stdin=account.password)

    def push(self, image: Layout, target: str) -> Result:
        self.over_http(target.partition("/")[0])
        return self.run("image", "copy", f"ocidir://{image.path}:{TAG}", target)

    def try_pull(self, source: str) -> Result:
        self.over_http(source.partition("/")[0])
        self.target = self.folder()
        return self.run("image", "copy", source, f"ocidir://{self.target}:{TAG}")

    def copy(self, source: str, target: str) -> Result:
        return self.run("image", "copy", source, target)


class StorageClient(Client):
    """podman and buildah: images live in a storage folder; a pull goes into a fresh one."""

    pushed: str  # id of the image pushed last

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.authfile.write_text(NO_CREDENTIALS)
        self.storage = self.folder()

    @property
    def environment(self) -> Mapping[str, str]:
        return {**super().environment, "BUILDAH_ISOLATION": "chroot", "REGISTRY_AUTH_FILE": str(self.authfile)}

    @property
    def authfile(self) -> Path:
        return self.home / "auth.json"

    @property
    def globals(self) -> Sequence[str]:
        folders = ("--root", str(self.storage / "root"), "--runroot", str(self.storage / "run"))
        return (*folders, "--storage-driver", "vfs")

    def login(self, account: Account) -> Result:
        arguments = ("login", "--tls-verify=false", "-u", account.username, "--password-stdin", account.host)
        return self.run(*arguments, stdin=account.password)

    def load(self, image: Layout) -> str:
        """Put an image into the storage; its id there."""
        return self.run("pull", "--quiet", f"oci:{image.path}:{TAG}").check().stdout.strip().splitlines()[-1]

    def push(self, image: Layout, target: str) -> Result:
        self.pushed = self.load(image)
        return self.run("push", "--tls-verify=false", self.pushed, f"docker://{target}")

    def copy(self, source: str, target: str) -> Result:
        return self.run("push", "--tls-verify=false", self.pushed, f"docker://{target}")

    def try_pull(self, source: str) -> Result:
        self.storage = self.folder()
        return self.run("pull", "--tls-verify=false", f"docker://{source}")

    def pulled(self, source: str) -> Pulled:
        images = json.loads(self.run("images", "--json", "--no-trunc").check().stdout)
        assert len(images) == 1, images
        return Pulled("sha256:" + str(images[0].get("id") or images[0].get("Id")).removeprefix("sha256:"), None)


class Podman(StorageClient):
    name = "podman"

    @property
    def globals(self) -> Sequence[str]:
        temporary = ("--tmpdir", str(self.storage / "tmp"), "--events-backend", "none", "--cgroup-manager", "cgroupfs")
        return (*super().globals, *temporary)

    def pulled(self, source: str) -> Pulled:
        identity = self.run("image", "inspect", "--format", "{{.Id}}", source).check().stdout.strip()
        return Pulled("sha256:" + identity, None)


class Buildah(StorageClient):
    name = "buildah"


class Docker(Client):
    """The docker command, talking to an engine that the tests started (`socket`)."""

    name = "docker"
    socket: str = ""

    @property
    def globals(self) -> Sequence[str]:
        return ("--config", str(self.home), "--host", self.socket)

    def login(self, account: Account) -> Result:
        arguments = ("login", "-u", account.username, "--password-stdin", account.host)
        return self.run(*arguments, stdin=account.password)

    def load(self, image: Layout, name: str) -> None:
        archive = docker_archive(image, self.folder(), name)
        self.run("load", "--input", archive).check()
        archive.unlink()

    def push(self, image: Layout, target: str) -> Result:
        self.load(image, target)
        return self.run("push", target)

    def copy(self, source: str, target: str) -> Result:
        self.run("tag", source, target).check()
        return self.run("push", target)

    def try_pull(self, source: str) -> Result:
        self.forget_all()
        return self.run("pull", source)

    def forget_all(self) -> None:
        """Remove every image, so that a pull really downloads."""
        images = self.run("images", "--all", "--quiet", "--no-trunc").check().stdout.split()
        if images:
            self.run("rmi", "--force", *sorted(set(images))).check()

    def pulled(self, source: str) -> Pulled:
        return Pulled(self.run("image", "inspect", "--format", "{{.Id}}", source).check().stdout.strip(), None)


ALL: Sequence[type[Client]] = (Docker, Podman, Skopeo, Buildah, Crane, Oras, Regctl)
