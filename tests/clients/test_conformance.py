"""The OCI distribution conformance suite, as `make conformance` runs it: nothing fails, nothing is skipped."""

from pathlib import Path

import pytest

from conformance.run import PROFILES, Outcome, Profile, run_here
from support import postgres

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_the_oci_suite_passes_with_nothing_failed_and_nothing_skipped(profile: Profile, tmp_path: Path) -> None:
    expect_clean(profile, run_here(profile, tmp_path, tmp_path / "results"))


@pytest.mark.parametrize("name", ["1.1-all", "dev-all"])
def test_it_passes_with_the_catalog_on_postgresql_too(name: str, tmp_path: Path) -> None:
    (profile,) = (profile for profile in PROFILES if profile.name == name)
    database = postgres.server().new_schema()
    expect_clean(profile, run_here(profile, tmp_path, tmp_path / "results", database=database))
    assert not list(tmp_path.rglob("catalog.sqlite3"))


@pytest.mark.parametrize("name", ["1.0-all", "dev-all"])
def test_it_passes_with_two_workers_too(name: str, tmp_path: Path) -> None:
    (profile,) = (profile for profile in PROFILES if profile.name == name)
    expect_clean(profile, run_here(profile, tmp_path, tmp_path / "results", workers=2))


def test_it_passes_with_two_workers_and_the_catalog_on_postgresql(tmp_path: Path) -> None:
    (profile,) = (profile for profile in PROFILES if profile.name == "1.1-all")
    database = postgres.server().new_schema()
    expect_clean(profile, run_here(profile, tmp_path, tmp_path / "results", database=database, workers=2))


def expect_clean(profile: Profile, outcome: Outcome) -> None:
    assert outcome.clean, f"{outcome.failed} failed, {outcome.errors} errors, {outcome.skipped} skipped:\n" + "\n".join(
        outcome.unhappy
    )
    assert outcome.passed > 700, "the suite was cut short"
    if profile.settings:
        assert outcome.disabled == 0, "a profile that turns everything on left something out"
