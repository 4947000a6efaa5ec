"""data-model.md says what the code does."""

from typing import Any

import jsonschema
import pytest

from executions.attempts import AttemptOutcome
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState
from tests.document_fields import ACTIVITY_FIELDS, EXECUTION_FIELDS
from tests.specs_scripts import viewer
from tests.unit.specs import data_model
from tests.unit.specs.data_model import names, section, tables

MOMENT = "2026-01-02T03:04:05.678901Z"


def test_its_tables_name_the_documents_fields_in_their_order() -> None:
    assert tuple(names("3.1")) == EXECUTION_FIELDS
    assert tuple(names("3.2")) == ACTIVITY_FIELDS


def test_its_schema_has_the_documents_fields_in_their_order_all_required() -> None:
    schema = data_model.message_schema()["$defs"]
    assert tuple(schema["execution"]["properties"]) == EXECUTION_FIELDS
    assert tuple(schema["execution"]["required"]) == EXECUTION_FIELDS
    assert tuple(schema["activity"]["properties"]) == ACTIVITY_FIELDS
    assert tuple(schema["activity"]["required"]) == ACTIVITY_FIELDS


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("link", [None, "a-1"], ["", "a/b", 3]),
        (
            "point",
            [None, {"kind": "reset", "name": None, "at": MOMENT}],
            [{}, {"kind": None, "name": "a", "at": MOMENT}, {"kind": "a", "at": MOMENT}, "signal"],
        ),
    ],
)
def test_its_schema_tells_good_from_bad(kind: str, good: list[Any], bad: list[Any]) -> None:
    schema = data_model.message_schema()
    part = {"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]}
    validator = jsonschema.Draft202012Validator(part)
    assert all(validator.is_valid(value) for value in good)
    assert not any(validator.is_valid(value) for value in bad)


def test_its_statuses_are_those_of_the_code() -> None:
    assert names("4.1") == list(ExecutionStatus)
    finals = [row[1] == "yes" for row in tables("4.1")[0]]
    assert finals == [status.is_final for status in ExecutionStatus]
    assert names("4.2") == list(ActivityStatus)
    ranks = [int(row[1]) for row in tables("4.2")[0]]
    assert ranks == [status.rank for status in ActivityStatus]


def test_its_pending_states_and_outcomes_are_those_of_the_code() -> None:
    for state in PendingState:
        assert f"`{state}`" in section("4.3")
    (told,) = (row[2] for row in tables("11.2")[0] if row[0] == "`outcome`")
    assert told.split("`")[1::2] == list(AttemptOutcome)


def test_what_an_operator_reads_is_what_the_viewer_shows() -> None:
    told = 0
    for pending_state, status, scheduled_at, next_attempt_at, standing in tables("4.3")[0]:
        moments = {"": MOMENT, "null": None, "a timestamp": MOMENT}
        final = [each for each in ActivityStatus if each.is_final]
        statuses = {"not final": set(ActivityStatus) - set(final), "final": final}
        for each in statuses.get(status, [status.strip("`")]):
            item = {
                "pending_state": None if pending_state == "null" else pending_state.strip("`"),
                "status": str(each),
                "scheduled_at": moments[scheduled_at],
                "next_attempt_at": moments[next_attempt_at],
            }
            expected = each if standing.startswith("ended") else standing
            assert expected.startswith(viewer.standing(item)), item
            told += 1
    assert told == 3 * 3 + 5 + 4
