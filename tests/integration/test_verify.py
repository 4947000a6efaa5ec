"""manage.py verify: what was altered behind everybody's back is found, and streams are repaired."""

import threading
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from executions.models import Activity, Event, Execution
from executions.recording import changing
from executions.statuses import ExecutionStatus
from streaming import verifier
from streaming.activity_update_publisher import publisher
from streaming.management.commands import verify as verify_command
from streaming.stream import stream_key
from streaming.valkey.clients import writing_client
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.truth import logged_ids, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _valkey(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(verifier, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(verifier, "EVENTS_PER_PAGE", 4)
    yield
    assert publisher().wait_until_filled(20)


@pytest.fixture
def execution_id() -> str:
    """An execution that has ended: 12 events."""
    execution_id = an_execution("step", "other")
    change(execution_id, 9)
    with changing(execution_id) as changed:
        changed.execution.status = ExecutionStatus.COMPLETED
    return execution_id


def change(execution_id: str, times: int) -> None:
    for _ in range(times):
        with changing(execution_id) as changed:
            changed.activity("step").progress = (changed.execution.head_sequence + 1) / 1_000_000


def verify(*arguments: str) -> tuple[int, list[str]]:
    """The exit code and the lines that were printed."""
    out = StringIO()
    code = 0
    try:
        call_command("verify", *arguments, stdout=out, stderr=StringIO())
    except SystemExit as end:
        code = int(str(end.code))
    return code, out.getvalue().splitlines()


def rows(model: Any, execution_id: str) -> Any:
    return model.unrecorded_writes.filter(execution_id=execution_id)


class TestNothingWrong:
    def test_everything_is_the_same(self, execution_id: str) -> None:
        change(an_execution("step"), 6)
        code, (line,) = verify()
        assert code == 0
        assert line.startswith(
            "2 executions: documents: 2 proven, 0 differ, 0 not provable; "
            "streams: 2 the same, 0 differ, 0 not there; 0 repaired; "
        )

    @pytest.mark.parametrize("kept", [0, 1, 5])
    def test_stream_that_begins_later_is_the_same(
        self, execution_id: str, valkey: ValkeyServer, kept: int
    ) -> None:
        valkey.client.xtrim(stream_key(execution_id), maxlen=kept, approximate=False)
        assert verify()[0] == 0

    def test_stream_that_is_not_there_is_no_fault(
        self, execution_id: str, valkey: ValkeyServer
    ) -> None:
        valkey.client.flushall()
        code, (line,) = verify()
        assert code == 0
        assert "0 differ, 1 not there" in line

    def test_pruned_logs_are_counted_apart_unless_their_end_proves_them(
        self, execution_id: str
    ) -> None:
        open_one = an_execution("step")
        change(open_one, 6)
        for each in (execution_id, open_one):
            rows(Event, each).filter(sequence__lt=3).delete()
        code, (line,) = verify()
        assert code == 0
        assert line.startswith("2 executions: documents: 1 proven, 0 differ, 1 not provable")

    def test_only_those_asked_for_are_compared(self, execution_id: str) -> None:
        other = an_execution("step")
        assert verify(other)[1][0].startswith("1 executions")
        Execution.unrecorded_writes.filter(pk=other).update(head_milliseconds=1)
        assert verify("--changed-within=1")[1][0].startswith("1 executions")


Alteration = Callable[[str], object]


class TestDocuments:
    @pytest.mark.parametrize(
        ("alter", "told"),
        [
            (lambda name: Execution.unrecorded_writes.filter(pk=name).update(workflow_id="x"),
             "the fold of the log and the document differ at /workflow_id"),
            (lambda name: rows(Activity, name).filter(position=1).update(status="failed"),
             "the fold of the log and the document differ at /activities/1/status"),
            (lambda name: rows(Activity, name).filter(position=1).delete(),
             "the fold of the log and the document differ at /activities"),
            (lambda name: Execution.unrecorded_writes.filter(pk=name).update(head_sequence=50),
             "the execution's head is"),
            (lambda name: Execution.unrecorded_writes.filter(pk=name).update(status="running"),
             "the execution is running, and the log closed: True"),
            (lambda name: rows(Event, name).filter(sequence=5).delete(), "the log goes on with"),
            (lambda name: rows(Event, name).filter(sequence=5).update(message="{}"),
             "is no event's"),
            (lambda name: rows(Event, name).filter(sequence=5).update(milliseconds=5),
             "5-5 is older than"),
            (lambda name: rows(Event, name).filter(sequence=11).delete(), "the log ends with"),
        ],
    )  # fmt: skip
    def test_what_differs_is_told_and_left_alone(
        self, execution_id: str, alter: Alteration, told: str
    ) -> None:
        alter(execution_id)
        before = (list(Execution.objects.values()), list(Event.objects.values()))
        for arguments in ((), ("--repair",), (execution_id,)):
            code, (line, *_) = verify(*arguments)
            assert code == 1
            assert line.startswith(f"{execution_id}  document: ")
            assert told in line
        assert (list(Execution.objects.values()), list(Event.objects.values())) == before


class TestStreams:
    def entry(self, valkey: ValkeyServer, key: str, position: int) -> tuple[str, dict[str, str]]:
        entries: Any = valkey.client.xrange(key)
        entry: tuple[str, dict[str, str]] = entries[position]
        return entry

    def alter_delete_one(self, valkey: ValkeyServer, key: str) -> None:
        valkey.client.xdel(key, self.entry(valkey, key, 6)[0])

    def alter_delete_the_last(self, valkey: ValkeyServer, key: str) -> None:
        valkey.client.xdel(key, self.entry(valkey, key, -1)[0])

    def alter_another_text(self, valkey: ValkeyServer, key: str) -> None:
        entries: Any = valkey.client.xrange(key)
        valkey.client.delete(key)
        for position, (entry_id, fields) in enumerate(entries):
            text = fields["message"] + (" " if position == 7 else "")
            valkey.client.xadd(key, {"message": text}, id=entry_id)

    def alter_more_fields(self, valkey: ValkeyServer, key: str) -> None:
        entry_id, fields = self.entry(valkey, key, 0)
        valkey.client.delete(key)
        valkey.client.xadd(key, {"message": fields["message"], "more": "x"}, id=entry_id)

    def alter_foreign_entry(self, valkey: ValkeyServer, key: str) -> None:
        valkey.client.xadd(key, {"hello": "world"})

    def alter_huge_id(self, valkey: ValkeyServer, key: str) -> None:
        valkey.client.xadd(key, {"hello": "world"}, id=f"{2**64 - 1}-{2**64 - 1}")

    def alter_foreign_id(self, valkey: ValkeyServer, key: str) -> None:
        valkey.client.xadd(key, {"hello": "world"}, id="9999999999999-12")

    def alter_behind(self, valkey: ValkeyServer, key: str) -> None:
        entries: Any = valkey.client.xrange(key)
        valkey.client.delete(key)
        for entry_id, fields in entries[:-3]:
            valkey.client.xadd(key, fields, id=entry_id)

    def alter_no_stream(self, valkey: ValkeyServer, key: str) -> None:
        valkey.client.set(key, "x")

    @pytest.mark.parametrize(
        "alter",
        ["delete_one", "delete_the_last", "another_text", "more_fields", "foreign_entry",
         "huge_id", "foreign_id", "behind", "no_stream"],
    )  # fmt: skip
    def test_what_differs_is_found_and_repaired(
        self, execution_id: str, valkey: ValkeyServer, alter: str
    ) -> None:
        key = stream_key(execution_id)
        getattr(self, f"alter_{alter}")(valkey, key)
        code, (line, last) = verify()
        assert code == 1
        assert line.startswith(f"{execution_id}  stream: ")
        assert "streams: 0 the same, 1 differ" in last
        code, (_, last) = verify("--repair")
        assert code == 0
        assert "streams: 1 the same, 0 differ, 0 not there; 1 repaired" in last
        assert valkey.stream_ids(key) == logged_ids(execution_id)
        assert verify(execution_id)[0] == 0

    def test_stream_of_no_execution_is_found_and_removed(self, valkey: ValkeyServer) -> None:
        valkey.client.xadd(stream_key("nobody"), {"message": "{}"}, id="1-0")
        code, (line, _) = verify()
        assert (code, line) == (1, "nobody  stream: there is a stream, but no such execution")
        assert verify("--repair")[0] == 0
        assert not valkey.client.exists(stream_key("nobody"))

    def test_what_is_published_a_moment_later_is_no_difference(self) -> None:
        execution_id = an_execution("step")
        with nobody_listening():
            change(execution_id, 3)
        pauses = []

        def publish_meanwhile(seconds: float) -> None:
            pauses.append(seconds)
            publisher().fill(execution_id)
            assert publisher().wait_until_filled(20)

        compared = verifier.Verifier(writing_client(), publish_meanwhile).compare_stream(
            execution_id
        )
        assert compared.outcome is verifier.Outcome.SAME
        assert len(pauses) == 1


def test_beside_writers_that_write_all_the_time_nothing_differs() -> None:
    ids = [an_execution("step") for _ in range(3)]
    done = threading.Event()

    def write() -> None:
        try:
            while not done.is_set():
                for execution_id in ids:
                    change(execution_id, 1)
        finally:
            connection.close()

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(5):
            code, lines = verify()
            assert code == 0, lines
    finally:
        done.set()
        writing.join()


class TestEnding:
    @pytest.mark.parametrize(
        "arguments", [("no-such-execution",), ("some", "--changed-within=2")]
    )  # fmt: skip
    def test_wrong_use_is_refused(self, arguments: tuple[str, ...]) -> None:
        with pytest.raises(CommandError) as refusal:
            verify(*arguments)
        assert refusal.value.returncode == 2

    @pytest.mark.parametrize("argument", ["--changed-within=0", "--changed-within=x", "a/b"])
    def test_arguments_of_another_form_are_refused(self, argument: str) -> None:
        with pytest.raises(CommandError):
            verify(argument)

    def test_valkey_that_is_away_is_told_by_a_code_of_its_own(
        self, execution_id: str, valkey: ValkeyServer
    ) -> None:
        valkey.kill()
        with pytest.raises(CommandError, match="not everything could be compared") as failure:
            verify()
        assert failure.value.returncode == 2

    def test_database_that_is_away_is_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def away() -> Iterator[str]:
            raise OperationalError("away")
            yield

        monkeypatch.setattr(verify_command, "all_executions", away)
        with pytest.raises(CommandError) as failure:
            verify()
        assert failure.value.returncode == 2

    def test_interrupted_it_says_how_far_it_came(
        self, execution_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted() -> Iterator[str]:
            yield execution_id
            raise KeyboardInterrupt

        monkeypatch.setattr(verify_command, "all_executions", interrupted)
        monkeypatch.setattr(verify_command, "REPORT_SECONDS", 0)
        code, (line,) = verify()
        assert code == 130
        assert line.startswith("interrupted; 1 executions")
