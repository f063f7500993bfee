"""The wheel, installed beside a pytest that knows nothing of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.environment import clean_environment

TEST = """
def test_it(registry, fresh_registry):
    assert registry.push_image("app").digest == fresh_registry.push_image("app").digest
"""


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content and its metadata, where its dependencies are found as well."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = next(built.glob("*.whl"))
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--target", str(folder))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    return folder


def test_pytest_has_the_fixture_once_the_wheel_is_installed(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
        "-W",
        "error::pytest.PytestAssertRewriteWarning",
    ]
    environment = clean_environment({"PYTHONPATH": str(installed)})
    done = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'tmp'}"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
