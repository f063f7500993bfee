"""The OCI distribution conformance suite, as `make conformance` runs it: nothing fails, nothing is skipped."""

from pathlib import Path

import pytest

from conformance.run import PROFILES, Profile, run_here

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_the_oci_suite_passes_with_nothing_failed_and_nothing_skipped(profile: Profile, tmp_path: Path) -> None:
    outcome = run_here(profile, tmp_path, tmp_path / "results")
    assert outcome.clean, f"{outcome.failed} failed, {outcome.errors} errors, {outcome.skipped} skipped:\n" + "\n".join(
        outcome.unhappy
    )
    assert outcome.passed > 700, "the suite was cut short"
    if profile.settings:
        assert outcome.disabled == 0, "a profile that turns everything on left something out"
