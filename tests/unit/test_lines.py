"""Lines of the access log that are formatted once."""

import io
import logging
from collections.abc import Iterator

import pytest

from regserver import logs
from regserver.web import lines


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_log_as_it_is_set_up_takes_lines_that_were_formatted_once(root: logging.Logger, form: str) -> None:
    logs.configure(form, io.StringIO())
    assert lines._only_handler() is root.handlers[0]


def test_a_filter_that_nobody_here_knows_sees_every_line(root: logging.Logger) -> None:
    logs.configure("text", io.StringIO())
    root.handlers[0].addFilter(lambda record: True)
    assert lines._only_handler() is None


class Counting(logs.TextFormatter):
    calls = 0

    def format(self, record: logging.LogRecord) -> str:
        self.calls += 1
        return super().format(record)


KEPT = {"method": "GET", "path": "/v2/a/manifests/v1", "status": 200, "ms": 0.0, "subject": "robot$a", "request_id": ""}


async def test_kept_lines_are_formatted_once_and_read_like_all_others(root: logging.Logger) -> None:
    stream, formatter, waiting = io.StringIO(), Counting(), lines.Lines()
    logs.configure("text", stream)
    root.handlers[0].setFormatter(formatter)
    for identity in (b"req_1", b"req_2", b"req_3"):
        waiting.add(KEPT, 1_700_000_000.5, identity)
    waiting.flush()
    assert formatter.calls == 1
    expected = [
        logs.TextFormatter().format(lines.record({**KEPT, "request_id": name}, 1_700_000_000.5))
        for name in ("req_1", "req_2", "req_3")
    ]
    assert stream.getvalue().splitlines() == expected
