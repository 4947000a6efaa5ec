"""Statements that run together: one transaction's, whole or not at all, in few round trips."""

from collections.abc import Iterable

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from executions.models import Event, Execution
from executions.statements import RowReader, Statement, insert, run_together, update
from tests.samples import an_execution

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

AWKWARD = ["100 % %s %(x)s", "it's; DROP TABLE executions_event; --", 'a "b" \\ \\\' $1 $$', "é\n€"]


def inserts(execution_id: str, messages: Iterable[str]) -> list[Statement]:
    return [
        insert(
            Event(execution_id=execution_id, sequence=100 + number, milliseconds=1, message=text)
        )
        for number, text in enumerate(messages)
    ]


def written(execution_id: str) -> list[str]:
    rows = Event.objects.filter(execution_id=execution_id, sequence__gte=100)
    return list(rows.order_by("sequence").values_list("message", flat=True))


def test_any_text_is_written_as_it_is() -> None:
    execution_id = an_execution("step")
    with transaction.atomic():
        run_together(inserts(execution_id, AWKWARD))
    assert written(execution_id) == AWKWARD


def test_what_follows_a_refused_statement_is_not_written_nor_what_precedes_it() -> None:
    execution_id = an_execution("step")
    first, second, third = inserts(execution_id, ["a", "b", "c"])
    with pytest.raises(DatabaseError), transaction.atomic():
        run_together([first, second, second, third])
    assert written(execution_id) == []


@pytest.mark.parametrize("binds_itself", [False, True])
def test_several_take_one_round_trip_where_the_database_takes_them(
    binds_itself: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution_id = an_execution("step")
    at_once = connection.vendor == "postgresql" and not binds_itself
    if connection.vendor == "postgresql":
        bound = property(lambda _: binds_itself)
        monkeypatch.setattr(type(connection.features), "uses_server_side_binding", bound)
    with CaptureQueriesContext(connection) as captured:
        run_together(inserts(execution_id, AWKWARD))
    assert len(captured) == (1 if at_once else len(AWKWARD))
    assert written(execution_id) == AWKWARD


def test_update_writes_the_named_fields_alone() -> None:
    execution_id = an_execution("step")
    row = Execution.objects.get(pk=execution_id)
    row.workflow_type, row.run_id = "Other", "not written"
    row.error_details = {"type": None, "message": AWKWARD[1]}
    run_together([update(row, ["workflow_type", "error_details"])])
    stored = Execution.objects.get(pk=execution_id)
    assert (stored.workflow_type, stored.run_id) == ("Other", None)
    assert stored.error_details == row.error_details


def test_reader_reads_what_its_query_would() -> None:
    execution_id, other = an_execution("step"), an_execution("step")
    rows = Execution.objects.filter(workflow_id="").filter(pk="")
    reader = RowReader(rows)
    for wanted in (execution_id, other):
        stored = Execution.objects.get(pk=wanted)
        row = reader.read(stored.workflow_id, wanted)
        assert row is not None
        assert {**vars(row), "_state": None} == {**vars(stored), "_state": None}
    assert reader.read("no such", execution_id) is None
