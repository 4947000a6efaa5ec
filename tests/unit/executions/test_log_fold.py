"""What a fold of an event log proves of a document, and what it finds wrong."""

from collections.abc import Callable
from typing import Any

import pytest

from executions import events
from executions.events import CommittedEvent
from executions.identifiers import EventId
from executions.verification import LogFold, differing_paths

NAME = "the-execution"


def at(sequence: int) -> EventId:
    return EventId(1_000 + sequence, sequence)


def document(number: int, status: str = "running") -> dict[str, Any]:
    return {"status": status, "number": number, "list": [{"a/b": 1.0}]}


def first() -> CommittedEvent:
    message = events.initial_snapshot(NAME, at(0), document(0))
    return CommittedEvent(at(0), events.encode(message))


def patch(sequence: int, *operations: dict[str, Any]) -> CommittedEvent:
    told = operations or ({"op": "replace", "path": "/number", "value": sequence},)
    message = events.activity_patch(NAME, at(sequence), list(told))
    return CommittedEvent(at(sequence), events.encode(message))


def final(sequence: int, number: int) -> CommittedEvent:
    message = events.final_snapshot(NAME, at(sequence), document(number, "completed"))
    return CommittedEvent(at(sequence), events.encode(message))


def closing(sequence: int) -> CommittedEvent:
    return patch(sequence, {"op": "replace", "path": "/number", "value": sequence},
                 {"op": "replace", "path": "/status", "value": "completed"})  # fmt: skip


def log() -> list[CommittedEvent]:
    return [first(), patch(1), patch(2), closing(3), final(4, 3)]


def folded(
    *pages: list[CommittedEvent], head: int = 4, is_final: bool = True, shown: Any = None
) -> LogFold:
    fold = LogFold(NAME)
    for page in pages:
        fold.feed(page)
    fold.conclude(at(head), is_final, document(3, "completed") if shown is None else shown)
    return fold


def test_whole_log_that_tells_of_the_document_is_proven() -> None:
    fold = folded(log()[:2], log()[2:])
    assert (fold.problem, fold.is_proven) == (None, True)


def test_open_log_is_proven_too() -> None:
    fold = folded(log()[:3], head=2, is_final=False, shown=document(2))
    assert (fold.problem, fold.is_proven) == (None, True)


def test_pruned_log_of_an_ended_execution_is_proven_by_its_final_snapshot() -> None:
    fold = folded(log()[2:])
    assert (fold.problem, fold.is_proven) == (None, True)
    assert folded(log()[2:], shown=document(4)).problem is not None


def test_pruned_log_of_an_open_execution_cannot_be_proven() -> None:
    fold = folded(log()[1:3], head=2, is_final=False, shown=document(99))
    assert (fold.problem, fold.is_proven) == (None, False)


def put(position: int, event: CommittedEvent) -> Callable[[list[CommittedEvent]], None]:
    return lambda log: log.__setitem__(position, event)


def other_envelope(execution_id: str, event_id: EventId) -> CommittedEvent:
    text = events.encode(events.activity_patch(execution_id, event_id, [{"op": "x"}]))
    return CommittedEvent(at(2), text)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda log: log.pop(2), "the log goes on with 1003-3 after 1001-1"),
        (lambda log: log.insert(2, log[1]), "the log goes on with 1001-1 after 1001-1"),
        (put(2, CommittedEvent(EventId(1, 2), "")), "1-2 is older than 1001-1 before it"),
        (put(2, CommittedEvent(at(2), "{")), "the text of 1002-2 is no event's"),
        (put(2, CommittedEvent(at(2), '{"type":"heartbeat"}')), "the text of 1002-2 is no event's"),
        (put(2, other_envelope("another", at(2))), "the text of 1002-2 names another 1002-2"),
        (put(2, other_envelope(NAME, at(3))), "the text of 1002-2 names the-execution 1003-3"),
        (put(0, CommittedEvent(at(0), patch(0).message)), "1000-0 is of the wrong type"),
        (put(2, patch(2, {"op": "replace", "path": "/none/0", "value": 1})),
         "1002-2 does not apply"),
        (put(2, patch(2, {"op": "replace", "path": "/number/x/y", "value": 1})),
         "1002-2 does not apply"),
        (put(2, patch(2, {"op": "replace", "value": 1})), "1002-2 does not apply"),
        (put(2, patch(2, {"op": "add", "path": "/x", "value": 1})),
         "the fold and the final snapshot 1004-4 differ at /x"),
        (put(4, final(4, 9)), "the fold and the final snapshot 1004-4 differ at /number"),
        (lambda log: log.append(patch(5)), "1005-5 comes after the final snapshot"),
        (lambda log: log.pop(), "the log ends with 1003-3, the execution's head is 1004-4"),
        (lambda log: log.clear(), "the log ends with None, the execution's head is 1004-4"),
    ],
)  # fmt: skip
def test_what_is_wrong_first_is_named(
    spoil: Callable[[list[CommittedEvent]], object], problem: str
) -> None:
    spoiled = log()
    spoil(spoiled)
    found = folded(spoiled).problem
    assert found is not None
    assert found.startswith(problem)


def test_document_that_differs_is_found() -> None:
    problem = folded(log(), shown=document(3, "failed")).problem
    assert problem == "the fold of the log and the document differ at /status"


@pytest.mark.parametrize(
    ("events_kept", "head", "is_final"), [(5, 4, False), (4, 3, True)]
)  # fmt: skip
def test_status_and_end_of_the_log_belong_together(
    events_kept: int, head: int, is_final: bool
) -> None:
    problem = folded(log()[:events_kept], head=head, is_final=is_final).problem
    assert problem == f"the execution is completed, and the log closed: {not is_final}"


def test_after_a_problem_nothing_more_is_concluded() -> None:
    fold = LogFold(NAME)
    fold.feed([first(), patch(2), patch(3)])
    first_problem = fold.problem
    fold.feed([patch(4)])
    fold.conclude(at(4), False, document(4))
    assert fold.problem == first_problem


@pytest.mark.parametrize(
    ("one", "other", "paths"),
    [
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": True}, ["/a"]),
        ({"a": 0}, {"a": False}, ["/a"]),
        ({"a": True}, {"a": True}, []),
        ({"a": None}, {}, ["/a"]),
        ({}, {"a/b~c": 1}, ["/a~1b~0c"]),
        ([1, 2], [1, 3], ["/1"]),
        ([1, 2], [1], [""]),
        ([], {}, [""]),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "y"}]}, ["/a/0/b"]),
    ],
)
def test_paths_at_which_json_values_differ(one: Any, other: Any, paths: list[str]) -> None:
    assert list(differing_paths(one, other)) == paths
    assert list(differing_paths(other, one)) == paths


def test_only_some_of_many_paths_are_named() -> None:
    shown = document(3, "completed") | {f"more-{number}": 1 for number in range(9)}
    problem = folded(log(), shown=shown).problem
    assert problem is not None
    assert problem.endswith("/more-0, /more-1, /more-2, /more-3, /more-4 and more")
