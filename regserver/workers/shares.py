"""What of the settings is one worker's: limits that each process keeps in memory are shared out, so that they hold for
all of them together."""

from __future__ import annotations

from dataclasses import replace

from regserver.config import Settings


def share(settings: Settings, index: int) -> Settings:
    """The settings of worker ``index`` of ``settings.workers``. No share is less than one, as none at all would refuse
    everybody; so a limit below the number of workers becomes that number. 0 stays no limit."""
    return replace(
        settings,
        failed_logins_per_minute=_part(settings.failed_logins_per_minute, index, settings.workers),
        requests_per_second=_part(settings.requests_per_second, index, settings.workers),
        max_connections=_part(settings.max_connections, index, settings.workers),
    )


def _part(whole: int, index: int, workers: int) -> int:
    """The parts of all workers add up to the whole."""
    if whole == 0:
        return 0
    return max(1, whole // workers + (index < whole % workers))
