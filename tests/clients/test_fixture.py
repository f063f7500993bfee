"""The registry that other projects' tests hold (docs/testing.md), with a real client."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from regserver.testing import serve
from regserver.testing.faults import PULL_BLOB

from .conftest import require


def test_a_client_pulls_an_image_that_the_fixture_made_and_pushes_another(tmp_path: Path) -> None:
    crane = require("crane")
    with serve(tmp_path / "root") as registry:
        (tmp_path / "config.json").write_text(json.dumps(registry.credentials.docker_config))
        environment = {**os.environ, "DOCKER_CONFIG": str(tmp_path)}
        image = registry.push_image("app:v1", layers=2, files=[{"etc/motd": b"hello"}])
        registry.faults.too_many_requests(PULL_BLOB, retry_after=0)

        def run(*arguments: str) -> str:
            return subprocess.run(
                [crane, *arguments], env=environment, capture_output=True, text=True, check=True
            ).stdout

        assert run("digest", image.reference).strip() == image.digest
        run("pull", "--format=oci", image.reference, str(tmp_path / "pulled"))
        run("push", str(tmp_path / "pulled"), registry.reference("copy:v2"))
        assert registry.manifest("copy:v2") == image.content
        assert [asked.status for asked in registry.requests.matching(PULL_BLOB)].count(429) == 1
