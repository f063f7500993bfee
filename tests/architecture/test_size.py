"""A file that cannot be read in one sitting is two files."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 400


@pytest.mark.parametrize("folder", ["regserver", "tests", "tools", "benchmarks", "conformance"])
def test_no_file_is_longer_than_its_limit(folder: str) -> None:
    files = list(ROOT.glob(f"{folder}/**/*.py"))
    assert files, "the folder holds no Python"
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}
    assert {name: length for name, length in lengths.items() if length > LIMIT} == {}
