from collections.abc import Iterator

import pytest

from support.stage import Stage, opened_stage


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Made once: every run works on a copy."""
    with opened_stage(tmp_path_factory.mktemp("stage")) as opened:
        yield opened
