"""What log lines look like, and that they carry no credentials."""

import json
import logging
from typing import Any

import pytest
import structlog

from nexus_project.logs import line_processors, without_credentials


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://:secret@host:6379/0", "redis://***@host:6379/0"),
        ("redis+cluster://u:sec,ret@one:1,two:2", "redis+cluster://***@one:1,two:2"),
        ("at postgresql://me:sec/r@t@host/db?x=1 now", "at postgresql://***@host/db?x=1 now"),
        ("url='rediss://u:secret@host'", "url='rediss://***@host'"),
        ("unix:///var/run/valkey.sock and http://host/path", None),
        ("mail to someone@example.org", None),
    ],
)
def test_credentials_of_addresses_are_hidden_and_nothing_else(
    text: str, expected: str | None
) -> None:
    assert without_credentials(text) == (text if expected is None else expected)


def line(form: str, message: Any, **fields: Any) -> str:
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=line_processors(form),
        foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.processors.format_exc_info],
    )
    record = logging.LogRecord("some.library", logging.ERROR, "", 0, message, None, None)
    vars(record).update(fields)
    return formatter.format(record)


def test_a_line_is_key_value_pairs() -> None:
    told = line("line", "it failed")
    assert told == "timestamp=None level='error' logger=None event='it failed'"


def test_a_json_line_is_one_object() -> None:
    assert json.loads(line("json", "it\nfailed")) == {"event": "it\nfailed", "level": "error"}


@pytest.mark.parametrize("form", ["line", "json"])
def test_tracebacks_and_messages_of_libraries_are_covered(form: str) -> None:
    try:
        raise ValueError("cannot connect to redis://user:secret@host/0")
    except ValueError as error:
        told = line(form, str(error), exc_info=(type(error), error, error.__traceback__))
    assert "secret" not in told
    assert "Traceback" in told
    assert told.count("redis://***@host/0") >= 2
    assert "\n" not in told
