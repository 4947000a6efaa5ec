"""The viewer's fold: what it knows after each message, and its verdict."""

import copy
import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.specs_scripts import viewer

Verdict, Kind = viewer.Verdict, viewer.ProblemKind

Json = dict[str, Any]


def document(**changes: Any) -> Json:
    names = ["fetch", "store"]
    activities = [{"activity_id": n, "activity_name": n, "status": "pending"} for n in names]
    return {"execution_id": "x", "status": "running", "activities": activities, **changes}


def event(kind: str, sequence: int, **content: Any) -> Json:
    return {
        "type": kind,
        "execution_id": "x",
        "event_id": f"{1000 + sequence}-{sequence}",
        "timestamp": "2026-01-02T03:04:05Z",
        **content,
    }


def snapshot(sequence: int = 0, **changes: Any) -> Json:
    return event("initial_snapshot", sequence, execution=document(), **changes)


def replace(path: str, value: Any) -> Json:
    return {"op": "replace", "path": path, "value": value}


def patch(sequence: int, *ops: Json, **changes: Any) -> Json:
    ops = ops or (replace("/activities/0/status", f"status {sequence}"),)
    return {**event("activity_patch", sequence, ops=list(ops)), **changes}


def final(sequence: int, execution: Json) -> Json:
    return event("final_snapshot", sequence, execution=execution)


def after(*messages: object, **start: Any) -> Any:
    state = viewer.StreamState("x", **start)
    for message in messages:
        state = viewer.folded(state, message)
    return state


# Folding and the verdict.


def test_patches_fold_in_order_and_the_equal_final_snapshot_verifies() -> None:
    added = {"activity_id": "late", "status": "running"}
    state = after(
        snapshot(),
        patch(1, replace("/activities/0/status", "running")),
        patch(2, {"op": "add", "path": "/activities/2", "value": added}),
        patch(3, replace("/activities/2/status", "completed"), replace("/status", "completed")),
    )
    expected = document(status="completed")
    expected["activities"][0]["status"] = "running"
    expected["activities"].append({**added, "status": "completed"})
    assert state.document == expected
    assert str(state.cursor) == "1003-3"
    assert state.verdict is Verdict.OPEN

    state = viewer.folded(state, final(4, expected))
    assert state.verdict is Verdict.VERIFIED
    assert state.folded == 3
    assert state.problems == ()
    assert "1000-0 and 3 patches fold to the final snapshot 1004-4" in viewer.proof(state)


def test_folding_leaves_the_earlier_state_and_the_message_untouched() -> None:
    first = after(snapshot())
    remembered = copy.deepcopy(first.document)
    message = patch(1, replace("/activities/0", {"status": "running"}))
    sent = copy.deepcopy(message)
    later = viewer.folded(viewer.folded(first, message), patch(2))
    assert first.document == remembered
    assert message == sent
    assert later.document["activities"][0]["status"] == "status 2"


def test_a_patch_is_applied_wholly_or_not_at_all_and_then_a_fresh_snapshot_is_needed() -> None:
    begun = after(snapshot())
    broken = patch(1, replace("/status", "completed"), replace("/activities/7/status", "running"))
    state = viewer.folded(begun, broken)
    assert state.problem.kind is Kind.UNAPPLICABLE
    assert state.document == begun.document
    assert state.lost
    assert state.cursor is None

    recovered = viewer.folded(state, snapshot(5))
    assert not recovered.lost
    assert str(recovered.cursor) == "1005-5"


@pytest.mark.parametrize(
    "ops",
    [None, "x", [1], [{}], [{"op": "replace"}], [{"op": "dance", "path": "/a"}]]
    + [[{"op": "replace", "path": path, "value": 1}] for path in (7, "status", "/activities/x/y")]
    + [[replace("", [])], [{"op": "add", "path": "/activities/9", "value": 1}]]
    + [[{"op": "test", "path": "/status", "value": "other"}], [{"op": "remove", "path": "/no"}]],
)
def test_operations_that_do_not_apply_are_a_problem_not_a_crash(ops: object) -> None:
    state = after(snapshot(), event("activity_patch", 1, ops=ops))
    assert state.problem.kind is Kind.UNAPPLICABLE
    assert state.document == document()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=3), json_values, max_size=4)


@given(objects, objects)
def test_a_patch_gives_what_jsonpatch_gives_and_touches_nothing_else(old: Json, new: Json) -> None:
    ops = list(jsonpatch.make_patch(old, new))
    remembered = copy.deepcopy(old)
    assert viewer.differences(viewer.patched(old, ops), new) == ()
    assert old == remembered


@given(objects, objects)
def test_documents_differ_exactly_where_a_difference_is_told(old: Json, new: Json) -> None:
    found = viewer.differences(old, new)
    assert bool(found) is (json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True))
    assert viewer.differences(old, copy.deepcopy(old)) == ()


def test_a_mismatch_names_each_place_and_both_values() -> None:
    theirs = document(status="failed", extra=None)
    theirs["activities"][1] = {**theirs["activities"][1], "a/b~c": True}
    state = after(snapshot(), final(1, theirs))
    assert state.verdict is Verdict.MISMATCH
    assert {(each.path, repr(each.folded), repr(each.final)) for each in state.differences} == {
        ("/status", "'running'", "'failed'"),
        ("/extra", "(absent)", "None"),
        ("/activities/1/a~1b~0c", "(absent)", "True"),
    }
    text = "\n".join(viewer.difference_lines(state.differences))
    assert '/status\n  folded "running"\n  final  "failed"' in text
    assert "/extra\n  folded (absent)\n  final  null" in text


def test_true_is_not_one_and_numbers_compare_by_value() -> None:
    assert viewer.differences({"a": True}, {"a": 1}) != ()
    assert viewer.differences({"a": False}, {"a": 0}) != ()
    assert viewer.differences({"a": 1}, {"a": 1.0}) == ()
    assert viewer.differences([1, 2], [1]) == (viewer.Difference("/1", 2, viewer.ABSENT),)


def test_without_a_document_the_final_snapshot_cannot_be_verified() -> None:
    state = after(patch(4), final(5, document()), cursor=viewer.EventId(1003, 3))
    assert state.verdict is Verdict.UNVERIFIABLE
    assert str(state.cursor) == "1005-5"


# What a server may not do.


def test_an_event_that_was_applied_is_ignored_and_counted() -> None:
    once = after(snapshot(), patch(1), patch(2))
    again = viewer.folded(viewer.folded(once, patch(1)), patch(2))
    assert again.document == once.document
    assert again.cursor == once.cursor
    assert again.duplicates == 2
    assert again.problem.kind is Kind.DUPLICATE


def test_a_skipped_sequence_is_a_gap_and_the_cursor_stays() -> None:
    state = after(snapshot(), patch(1), patch(4))
    assert state.problem.kind is Kind.GAP
    assert "2 events missing between 1001-1 and activity_patch 1004-4" in state.problem.text
    assert str(state.cursor) == "1001-1"
    assert state.document["activities"][0]["status"] == "status 1"
    assert viewer.folded(state, patch(2)).problem is None


def test_a_missing_event_before_the_final_snapshot_is_a_gap_not_a_verdict() -> None:
    state = after(snapshot(), final(2, document()))
    assert state.problem.kind is Kind.GAP
    assert state.verdict is Verdict.OPEN


@pytest.mark.parametrize(
    ("messages", "kind"),
    [
        ([patch(1)], Kind.UNEXPECTED),
        ([final(1, {})], Kind.UNEXPECTED),
        ([snapshot(), snapshot(1)], Kind.UNEXPECTED),
        ([snapshot(), final(1, document()), patch(2)], Kind.UNEXPECTED),
        ([snapshot(), patch(1, event_id="999-1")], Kind.UNEXPECTED),
        ([snapshot(), patch(1, execution_id="y")], Kind.FOREIGN),
        ([snapshot(execution_id=None)], Kind.FOREIGN),
        ([snapshot(), patch(1, event_id="1-01")], Kind.MALFORMED),
        ([snapshot(), patch(1, event_id=None)], Kind.MALFORMED),
        ([event("initial_snapshot", 0)], Kind.MALFORMED),
        ([snapshot(), event("final_snapshot", 1, execution=[])], Kind.MALFORMED),
        ([snapshot(), {"type": "heartbeat", "event_id": 3}], Kind.MALFORMED),
        ([snapshot(), {"type": "heartbeat", "event_id": "1001-1"}], Kind.GAP),
        ([[]], Kind.MALFORMED),
        ([{"type": 3}], Kind.MALFORMED),
    ],
)
def test_a_broken_protocol_is_told_by_its_kind(messages: list[Any], kind: Any) -> None:
    assert after(*messages[:-1]).problem is None
    state = after(*messages)
    assert state.problem.kind is kind
    assert state.problems == (state.problem,)


def test_replay_0_must_begin_at_sequence_0_or_say_that_it_resyncs() -> None:
    assert after(snapshot(0), from_beginning=True).problem is None
    assert after(snapshot(3), from_beginning=True).problem.kind is Kind.UNEXPECTED
    assert after(snapshot(3, resync={"reason": "trimmed"}), from_beginning=True).problem is None


@pytest.mark.parametrize("frame", ["", "{", b"{}", '{"type": NaN}', "[" * 100_000, "9" * 5_000])
def test_a_frame_that_is_no_json_text_is_malformed(frame: str | bytes) -> None:
    assert viewer.received(after(snapshot()), frame).problem.kind is Kind.MALFORMED


# Resync, and what is unknown.


@pytest.mark.parametrize("sequence", [2, 9])
def test_after_a_resync_the_fold_and_the_verification_go_on_from_its_snapshot(
    sequence: int,
) -> None:
    state = after(snapshot(), patch(1), patch(2), patch(3))
    state = viewer.folded(state, snapshot(sequence, resync={"reason": "slow"}))
    assert (state.resyncs, state.resync_reason, state.problem) == (1, "slow", None)
    assert state.document == document()
    state = viewer.folded(state, patch(sequence + 1, replace("/status", "completed")))
    state = viewer.folded(state, final(sequence + 2, document(status="completed")))
    assert state.verdict is Verdict.VERIFIED
    assert state.folded == 1


def test_a_heartbeat_up_to_the_cursor_or_without_one_changes_nothing() -> None:
    begun = after(snapshot(), patch(1))
    for heartbeat in ({}, {"event_id": "1001-1"}, {"event_id": "1000-0"}):
        beaten = viewer.folded(begun, {"type": "heartbeat", **heartbeat})
        assert beaten.problem is None
        assert (beaten.document, beaten.cursor) == (begun.document, begun.cursor)


def test_unknown_message_types_fields_and_statuses_are_taken_as_they_come() -> None:
    known = snapshot(novelty={"deep": [1]})
    known["execution"].update(status="hibernating", mood="fine")
    state = after(known, {"type": "weather", "event_id": "7-7"}, patch(1, novelty=1))
    assert state.problems == ()
    assert state.tallies["weather"].count == 1
    assert state.messages == 3
    assert viewer.look("hibernating") is viewer.UNKNOWN_LOOK
    assert viewer.look(["no", "text"]) is viewer.UNKNOWN_LOOK
    shown = str(viewer.fields_of(state.document, 0.0))
    assert "hibernating" in shown
    assert "mood" in shown


def test_message_types_and_problems_without_end_take_bounded_room() -> None:
    state = after(snapshot())
    for number in range(200):
        state = viewer.folded(state, {"type": f"t{number}"})
        state = viewer.folded(state, patch(9))
    assert len(state.tallies) <= viewer.TYPES_COUNTED + 2
    assert len(state.problems) == viewer.PROBLEMS_KEPT
    assert state.messages == 401
