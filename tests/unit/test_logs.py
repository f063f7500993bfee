"""Log lines: one per event, nothing forged, nothing secret."""

import asyncio
import io
import json
import logging

import pytest

from regserver import logs

TOKEN = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJyb2JvdCJ9.c2lnbmF0dXJl"


def line(formatter: logging.Formatter, message: str, *, error: BaseException | None = None, **extra: object) -> str:
    """What the formatter makes of one event."""
    record = logging.LogRecord("regserver.test", logging.INFO, "", 0, message, None, None)
    record.exc_info = (type(error), error, error.__traceback__) if error else None
    vars(record).update(extra)
    return formatter.format(record)


def test_text_is_a_time_a_level_a_name_a_message_and_the_events_fields() -> None:
    text = line(logs.TextFormatter(), "listening", address="127.0.0.1:5000", note="two words", count=3, nothing="")
    assert text.endswith(' INFO regserver.test listening address=127.0.0.1:5000 note="two words" count=3 nothing=""')
    assert text[10] == "T"
    assert text[23] == "Z"


def test_json_is_one_object_that_keeps_numbers() -> None:
    event = json.loads(line(logs.JsonFormatter(), "listening", address="127.0.0.1:5000", count=3, time="forged"))
    assert (event["level"], event["logger"], event["message"]) == ("info", "regserver.test", "listening")
    assert (event["address"], event["count"]) == ("127.0.0.1:5000", 3)
    assert event["time"].endswith("Z")


@pytest.mark.parametrize("formatter", [logs.TextFormatter(), logs.JsonFormatter()])
@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\x00", "\x7f", "\x9b", "\u2028", "\u2029", "\x85"])
def test_no_control_character_gets_through(formatter: logging.Formatter, character: str) -> None:
    text = line(formatter, f"a{character}b", field=f"c{character}d")
    shown = json.dumps(json.loads(text), ensure_ascii=False) if text.startswith("{") else text
    assert character not in shown
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("formatter", [logs.TextFormatter(), logs.JsonFormatter()])
@pytest.mark.parametrize(
    "secret", [TOKEN, f"Bearer {TOKEN}", "Basic YWRtaW46c2VjcmV0", "bearer abcdefgh12345678", "rsv_abcdefgh12345678"]
)
def test_what_looks_like_a_credential_is_not_written(formatter: logging.Formatter, secret: str) -> None:
    text = line(formatter, f"bad header {secret}", error=ValueError(f"cannot read {secret}"), header=secret)
    assert secret.split()[-1] not in text
    assert "[redacted]" in text


def test_a_traceback_in_text_cannot_look_like_another_event() -> None:
    text = line(logs.TextFormatter(), "failed", error=ValueError("first\n2026-01-15T10:30:00.000Z INFO forged"))
    first, *rest = text.splitlines()
    assert first.endswith("failed")
    assert rest
    assert all(following.startswith("    | ") for following in rest)


def test_a_traceback_in_json_is_a_list_on_the_same_line() -> None:
    text = line(logs.JsonFormatter(), "failed", error=ValueError("reason"))
    assert "\n" not in text
    assert json.loads(text)["traceback"][-1] == "ValueError: reason"


def test_configure_sends_every_logger_of_the_process_to_one_stream() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        logs.configure("json", stream)
        logging.getLogger("somewhere.else").info("heard")
        logging.getLogger("somewhere.else").debug("not heard")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
    assert [json.loads(event)["message"] for event in stream.getvalue().splitlines()] == ["heard"]


async def test_every_line_of_a_request_has_its_id_whoever_writes_it_and_wherever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    stream = io.StringIO()
    logs.configure("json", stream)
    logging.captureWarnings(False)  # they are errors here
    log = logging.getLogger("regserver.test")

    async def serve(request_id: str) -> None:
        logs.REQUEST.set(request_id)
        log.info("in the loop")
        await asyncio.to_thread(log.info, "in a thread")
        log.info("of another", extra={"request_id": "req_other"})

    await asyncio.gather(asyncio.create_task(serve("req_a")), asyncio.create_task(serve("req_b")))
    log.info("of none")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    found = sorted((line["message"], line.get("request_id", "")) for line in lines)
    assert found == [
        ("in a thread", "req_a"),
        ("in a thread", "req_b"),
        ("in the loop", "req_a"),
        ("in the loop", "req_b"),
        ("of another", "req_other"),
        ("of another", "req_other"),
        ("of none", ""),
    ]
