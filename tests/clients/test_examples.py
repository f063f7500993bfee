"""The examples of docs/examples, run or read by what they are for. The proxies have a file of their own."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from regserver.__main__ import _parser
from regserver.cli.groups import NAMES
from support.clients import Missing, find
from support.proxies import EXAMPLES, free_port, replaced
from support.served import serve


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
