"""The examples of docs/examples, run or read by what they are for. The proxies have a file of their own."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from regserver.__main__ import _parser
from regserver.cli.groups import NAMES
from support.clients import Missing, Skopeo, find
from support.layouts import make_image
from support.proxies import EXAMPLES, free_port, replaced
from support.served import Served, Tenant, serve

IN_CI = bool(os.environ.get("REGSERVER_CI"))


def test_the_units_are_sound_for_systemd(tmp_path: Path) -> None:
    try:
        program = find("systemd-analyze")
    except Missing as missing:
        pytest.fail(str(missing), pytrace=False)
    for unit in sorted([*EXAMPLES.glob("*.service"), *EXAMPLES.glob("*.timer")]):
        text = unit.read_text().replace("/usr/local/bin/regserver", "/bin/true").replace("User=regserver", "User=root")
        (tmp_path / unit.name).write_text(text.replace("Group=regserver", "Group=root"))
    units = sorted(tmp_path.iterdir())
    assert len(units) == 3
    done = subprocess.run([program, "verify", "--man=no", *units], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "regserver" in line]
    assert (done.returncode, said) == (0, [])


def test_the_commands_of_the_units_are_commands() -> None:
    lines = [
        line.removeprefix("ExecStart=")
        for unit in EXAMPLES.glob("*.service")
        for line in unit.read_text().splitlines()
        if line.startswith("ExecStart=")
    ]
    assert len(lines) == 2
    for line in lines:
        words = shlex.split(line)
        if words[:2] == ["/bin/sh", "-c"]:
            words = words[2].replace("$(date +%%F)", "today").split()
        assert words[0] == "/usr/local/bin/regserver"
        _parser(NAMES).parse_args(words[1:])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder for commands that stand for others; `regserver` is there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command(folder / "regserver", f'exec {sys.executable} -m regserver "$@"')
    return folder


def command(file: Path, script: str) -> None:
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def shell(script: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    given = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **environment}
    given.pop("REGSERVER_CI", None)
    return subprocess.run(["bash", "-e"], input=script, env=given, capture_output=True, text=True, timeout=60)


def test_the_registry_of_the_github_job_starts_and_is_ready(tmp_path: Path, path: Path) -> None:
    port = free_port()
    steps = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())["jobs"]["build"]["steps"]
    (script,) = [step["run"] for step in steps if step.get("name") == "Start a registry for this job"]
    script = replaced(script, [("127.0.0.1:5000", f"127.0.0.1:{port}")])
    done = shell(script + "\nkill %1; wait %1", path, RUNNER_TEMP=str(tmp_path))
    assert (done.returncode, '"status": "ok"' in done.stdout) == (0, True), done


def test_the_service_of_the_gitlab_job_is_reached_as_the_job_does(tmp_path: Path, path: Path) -> None:
    job: dict[str, Any] = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text())["build"]
    token = job["variables"]["REGSERVER_ADMIN_TOKEN"]
    (service,) = [one for one in job["services"] if one.get("alias") == "registry"]
    _parser(NAMES).parse_args(service["command"])
    command(path / "docker", 'echo docker "$@"; cat')
    with serve(tmp_path / "data", environment={"REGSERVER_ADMIN_TOKEN": token}) as served:
        lines = [line for line in job["before_script"] if not line.startswith("apk ")]
        script = replaced("\n".join(lines), [("http://registry:5000", served.url)])
        done = shell(script, path, REGSERVER_ADMIN_TOKEN=token)
        assert done.returncode == 0, done
        assert f"docker login -u admin --password-stdin registry:5000\n{token}" in done.stdout
        answer = served.request("GET", "/v1/registries?name=ci", headers={"Authorization": f"Bearer {token}"})
        assert [row["name"] for row in answer.json["data"]] == ["ci"]


def test_the_script_for_kind_writes_a_hosts_file_into_every_node(tmp_path: Path, path: Path) -> None:
    command(path / "kind", "echo one two")
    command(
        path / "docker",
        f"""case "$1 $2" in
        "network inspect") echo "fc00:f853:ccd:e793::1 172.18.0.1 ";;
        "exec -i") cat > {tmp_path}/"$3"; echo "$@" >> {tmp_path}/asked;;
        *) echo "$@" >> {tmp_path}/asked;;
        esac""",
    )
    done = shell((EXAMPLES / "kind-registry.sh").read_text(), path)
    assert (done.returncode, done.stderr) == (0, "")
    for node in ("one", "two"):
        assert (tmp_path / node).read_text() == '[host."http://172.18.0.1:5000"]\n'
    assert (tmp_path / "asked").read_text().count("/etc/containerd/certs.d/localhost:5000") == 4


@pytest.mark.parametrize("name", ["kind-cluster.yaml", "k3d-registries.yaml", "kubernetes.yaml"])
def test_what_others_read_is_yaml(name: str) -> None:
    assert isinstance(yaml.safe_load((EXAMPLES / name).read_text()), dict)


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[Callable[..., "subprocess.CompletedProcess[str]"]]:
    """`ctr …` at a containerd of its own: what every node of kind and k3d runs."""
    if os.geteuid() != 0:
        reason = "containerd needs root: run the tests as root"
        pytest.fail(reason, pytrace=False) if IN_CI else pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="rs-"))  # a socket's path is short
    folders = ("--root", f"{folder}/root", "--state", f"{folder}/state", "--address", f"{folder}/sock")
    log = tmp_path / "containerd.log"
    with log.open("wb") as output:
        process = subprocess.Popen([find("containerd"), *folders], stdout=output, stderr=output)

    def ctr(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        asked = [find("ctr"), "-a", folder / "sock", *arguments]
        return subprocess.run(asked, capture_output=True, text=True, timeout=120)

    try:
        deadline = time.monotonic() + 60
        while ctr("version").returncode:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield ctr
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_node_pulls_from_the_registry_that_its_hosts_file_names(
    served: Served, create: Callable[..., Tenant], start: Any, containerd: Any, tmp_path: Path
) -> None:
    """Under the name localhost:5000, from another address, without a login: as the page says for kind and k3d."""
    tenant, image = create(public=True), make_image(tmp_path / "image", "for a cluster")
    skopeo = start(Skopeo)
    skopeo.login(tenant.robot).check()
    skopeo.push(image, tenant.image("api", "v1")).check()
    hosts = tmp_path / "certs.d" / "localhost:5000"
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(f'[host."{served.url}"]\n')  # what kind-registry.sh writes
    done = containerd("content", "fetch", "--hosts-dir", hosts.parent, f"localhost:5000/{tenant.name}/api:v1")
    assert done.returncode == 0, done.stderr
    kept = containerd("content", "ls", "-q").stdout.split()
    assert image.digests <= set(kept)
