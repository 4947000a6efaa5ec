"""What the viewer shows of a state, where it connects, and what it does when a connection ends."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.specs_scripts import viewer

BAD = "\x1b]0;title\x07\n\u202e[red]"


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\x1b[31mb", "a␛[31mb"),
        ("[red]x[/red]", "[red]x[/red]"),
        ("line\nbreak\r\t\0", "line␊break␍␉␀"),
        ("\x9b31m\x7f", "�31m�"),
        ("\u202eevil\u2066", "�evil�"),
        ("lone \ud800", "lone �"),
        ("日本 é 🎉", "日本 é 🎉"),
        (None, "null"),
    ],
)
def test_hostile_text_is_shown_inert(hostile: object, shown: str) -> None:
    assert viewer.inert(hostile) == shown
    assert viewer.inert(shown).encode()


def test_long_text_is_cut() -> None:
    assert len(viewer.inert("x" * 100_000)) == 200


def test_every_line_shown_of_a_hostile_document_is_printable() -> None:
    item = {
        "activity_id": BAD,
        "activity_name": BAD,
        "status": BAD,
        BAD: BAD,
        "error_details": {"type": BAD, "message": BAD},
        "depends_on": [BAD, {}, 3],
        "progress": float("inf"),
        "retry_count": BAD,
        "started_at": BAD,
        "activity_type": BAD,
        "pending_state": BAD,
        "child_execution_id": BAD,
    }
    points = [{"kind": BAD, "name": BAD, "at": BAD}, {"kind": [BAD]}, BAD, 3]
    runs = [
        {"latest_point": point, "parent_execution_id": BAD, "next_execution_id": {BAD: 1}}
        for point in points
    ]
    messages: list[dict[str, Any]] = [
        {"type": "initial_snapshot", "event_id": "5-0", "execution": {"activities": [item]}},
        {"type": BAD, "event_id": BAD, "timestamp": BAD},
        {"type": "activity_patch", "event_id": "5-1", "ops": [{"op": BAD, "path": f"/{BAD}"}]},
        {"type": "final_snapshot", "event_id": "5-0", "execution": {BAD: BAD}},
        {"type": "activity_patch", "event_id": BAD},
    ]
    state = viewer.StreamState(BAD)
    for message in messages:
        before, frame = state, json.dumps({**message, "execution_id": BAD})
        state = viewer.received(state, frame)
        assert viewer.message_line(before, state, frame).isprintable()
        lines = [
            *viewer.message_facts(state, {}),
            *viewer.stream_facts(state, viewer.Link(), 0.0, 0.0),
            *viewer.verdict_lines(state),
        ]
        assert all(text.isprintable() for line in lines for text, _ in line)
    for place, wrong in [("/activities/0", item), *(("", run) for run in runs)]:
        for name, value in wrong.items():
            op = {"op": "replace", "path": f"{place}/{name}", "value": value}
            assert viewer.patch_in_words({"activities": [item]}, [op]).isprintable()
    lines = [viewer.status_counts([item, *runs])]
    for shown in (item, *runs, {**item, "status": "retrying", "next_attempt_at": BAD}):
        lines += viewer.node_lines(shown, viewer.dependencies(shown), 0.0, True)
        lines += [*viewer.fields_of(shown, 0.0), viewer.run_line(shown)]
    assert all(text.isprintable() for line in lines for text, _ in line)
    found = viewer.differences({BAD: BAD}, {})
    assert all(line.isprintable() for line in viewer.difference_lines(found))


def test_a_patch_in_words_names_the_activity_and_what_changed() -> None:
    document = {"activities": [{"activity_name": "store", "status": "pending", "progress": 0}]}
    ops = [
        {"op": "replace", "path": "/activities/0/status", "value": "running"},
        {"op": "replace", "path": "/activities/0/started_at", "value": "now"},
    ]
    assert viewer.patch_in_words(document, ops) == "store: status pending → running"
    error = {"type": "IOError", "message": "disk\nfull"}
    failed = [
        {"op": "replace", "path": "/activities/0/error_details", "value": error},
        {"op": "replace", "path": "/activities/0/progress", "value": None},
    ]
    assert viewer.patch_in_words(document, failed) == "store: IOError: disk␊full"
    assert viewer.patch_in_words(document, failed[1:]) == "store: progress 0 → null"


@pytest.mark.parametrize(
    ("added", "told"),
    [
        ({"activity_name": "late", "status": "running"}, "new activity late: running"),
        ({"activity_name": "late", "activity_type": "late"}, "new activity late: null"),
        (
            {"activity_name": "1h", "activity_type": "timer", "status": "running"},
            "new timer 1h: running",
        ),
        (
            {"activity_name": "x", "status": "pending", "scheduled_at": "2026-01-02T03:04:05Z"},
            "new activity x: queued",
        ),
        ({"activity_name": "x", "activity_type": ["timer"]}, "new activity x: null"),
        (7, "new activity null: null"),
    ],
)
def test_a_new_activity_in_words_says_its_kind_and_where_it_stands(
    added: object, told: str
) -> None:
    added_last = {"op": "add", "path": "/activities/0", "value": added}
    assert viewer.patch_in_words({"activities": []}, [added_last]) == told


DUE = "2026-01-02T16:03:50.678901Z"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"status": "retrying", "error_details": {"type": "E", "message": "m"},
             "next_attempt_at": DUE, "progress": None},
            "status running → retrying, E: m, next attempt 16:03:50",
        ),
        ({"next_attempt_at": None}, "retry queued"),
        ({"status": "running", "started_at": DUE, "retry_count": 1, "next_attempt_at": None},
         "status running → running, attempt 2"),
        ({"scheduled_at": DUE}, "queued"),
        ({"pending_state": "cancel_requested"}, "cancel requested"),
        ({"pending_state": None}, "no longer paused"),
        ({"pending_state": "dreaming"}, "dreaming"),
        ({"progress": 0.405}, "progress 40%"),
        ({"progress": "half"}, "progress half"),
        ({"child_execution_id": "c-1"}, "child run c-1"),
        ({"next_attempt_at": "soon"}, "next_attempt_at soon"),
        ({"retry_count": "many"}, "retry_count many"),
        ({"mood": "fine"}, "mood fine"),
    ],
)  # fmt: skip
def test_a_change_of_an_activity_is_told_in_an_operators_words(
    changes: dict[str, Any], told: str
) -> None:
    activity = {"activity_name": "store", "status": "running", "pending_state": "paused"}
    ops = [
        {"op": "replace", "path": f"/activities/0/{name}", "value": value}
        for name, value in changes.items()
    ]
    assert viewer.patch_in_words({"activities": [activity]}, ops) == f"store: {told}"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("latest_point", {"kind": "signal", "name": "approve", "at": DUE}, "signal approve"),
        ("latest_point", {"kind": "cancel_requested", "name": None, "at": DUE}, "cancel requested"),
        ("latest_point", {"kind": "moonrise", "name": ""}, "moonrise"),
        ("latest_point", None, "latest_point null"),
        ("next_execution_id", "n-1", "next run n-1"),
        ("previous_execution_id", "p-1", "previous run p-1"),
    ],
)
def test_a_change_of_the_run_is_told_in_an_operators_words(
    name: str, value: object, told: str
) -> None:
    op = {"op": "replace", "path": f"/{name}", "value": value}
    assert viewer.patch_in_words({}, [op]) == f"execution: {told}"


# Where things stand.


NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
AGO, IN_3_MINUTES = "2026-01-02T03:03:05Z", "2026-01-02T03:07:10Z"


@pytest.mark.parametrize(
    ("item", "standing", "words"),
    [
        ({"status": "pending", "scheduled_at": None}, "planned", "planned"),
        ({"status": "pending", "scheduled_at": AGO}, "queued", "queued for 1 m 00 s"),
        ({"status": "running", "started_at": AGO}, "running", "running for 1 m 00 s"),
        (
            {"status": "running", "started_at": AGO, "retry_count": 2},
            "running",
            "running for 1 m 00 s, attempt 3",
        ),
        (
            {"status": "retrying", "retry_count": 1, "next_attempt_at": IN_3_MINUTES},
            "backing off",
            "backing off: attempt 3 in 3 m 05 s",
        ),
        ({"status": "retrying", "next_attempt_at": AGO}, "backing off",
         "backing off: attempt 2 due"),
        ({"status": "retrying", "next_attempt_at": None}, "retry queued",
         "retry queued: attempt 2 waits"),
        (
            {"status": "running", "started_at": AGO, "pending_state": "cancel_requested"},
            "cancelling",
            "cancelling, running for 1 m 00 s",
        ),
        ({"status": "running", "pending_state": "pause_requested"}, "pausing", "pausing, running"),
        (
            {"status": "pending", "scheduled_at": AGO, "pending_state": "paused"},
            "paused",
            "paused, pending for 1 m 00 s",
        ),
        (
            {"status": "completed", "started_at": AGO, "completed_at": AGO, "scheduled_at": AGO},
            "completed",
            "completed after 0 ms",
        ),
        ({"status": "skipped", "completed_at": AGO, "scheduled_at": None}, "skipped", "skipped"),
    ],
)  # fmt: skip
def test_where_an_activity_stands_is_read_from_its_fields(
    item: dict[str, Any], standing: str, words: str
) -> None:
    assert viewer.standing(item) == standing
    assert standing in viewer.LOOKS
    assert viewer.standing_in_words(item, NOW) == words


@pytest.mark.parametrize(
    ("item", "standing"),
    [
        ({"status": "pending"}, "pending"),
        ({"status": "retrying", "started_at": AGO}, "retrying"),
        ({"status": "hibernating", "pending_state": "paused"}, "hibernating"),
        ({"status": "running", "pending_state": "dreaming"}, "running"),
        ({"status": "running", "pending_state": ["paused"]}, "running"),
        ({"status": "completed", "pending_state": "paused"}, "completed"),
        ({"status": 3}, "3"),
        ({}, "null"),
    ],
)
def test_a_document_of_before_or_of_later_is_shown_by_its_status(
    item: dict[str, Any], standing: str
) -> None:
    assert viewer.standing(item) == standing
    _, right = viewer.node_lines(item, [], NOW, True)
    assert standing in text_of(right)
    assert standing in text_of(viewer.fields_of({"activity_id": "a", **item}, NOW)[0])


def text_of(line: list[tuple[str, str]]) -> str:
    return "".join(text for text, _ in line)


def words_of(text: str) -> str:
    return " ".join(text.split())


def test_a_node_shows_its_last_failure_while_it_is_retried_and_what_it_is() -> None:
    item = {
        "activity_name": "Ship",
        "activity_type": "child_workflow",
        "child_execution_id": "c-1",
        "status": "running",
        "started_at": AGO,
        "retry_count": 1,
        "error_details": {"type": "E", "message": "no\nstock"},
        "progress": 0.4,
    }
    left, right = viewer.node_lines(item, ["a", "b"], NOW, True)
    assert text_of(left)[1:] == " Ship  child workflow  ✗ E: no␊stock  c-1  ⇠ 2: a, b"
    assert words_of(text_of(right)) == "▰▰▱▱▱ 40% #2 running 1 m 00 s"
    _, narrow = viewer.node_lines(item, [], NOW, False)
    assert "%" not in text_of(narrow)

    left, right = viewer.node_lines({**item, "status": "completed"}, [], NOW, True)
    assert "no␊stock" not in text_of(left)
    assert "%" not in text_of(right)
    _, right = viewer.node_lines({**item, "progress": None}, [], NOW, True)
    assert words_of(text_of(right)) == "#2 running 1 m 00 s"
    without_type = {**item, "error_details": {"type": None, "message": "late"}}
    assert "✗ late" in text_of(viewer.node_lines(without_type, [], NOW, True)[0])


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("activity", ""),
        ("store", ""),
        (None, ""),
        ("local_activity", "local activity"),
        ("nexus_operation", "Nexus operation"),
        ("ritual", "ritual"),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_what_is_no_ordinary_activity_is_named(kind: object, shown: str) -> None:
    assert viewer.kind_of({"activity_name": "store", "activity_type": kind}) == shown


def test_the_run_line_shows_the_latest_point_and_the_links_there_are() -> None:
    point = {"kind": "signal", "name": "approve", "at": DUE}
    document = {
        "latest_point": point,
        "parent_execution_id": "p",
        "previous_execution_id": None,
        "next_execution_id": "n",
    }
    line = text_of(viewer.run_line(document))
    assert words_of(line) == "◆ signal approve 16:03:50 parent run p next run n"
    assert viewer.run_line({}) == viewer.run_line({"latest_point": None}) == []


def test_details_begin_with_where_it_stands_and_what_went_wrong() -> None:
    item = {
        "activity_id": "a",
        "child_execution_id": "c-1",
        "status": "retrying",
        "started_at": AGO,
        "next_attempt_at": IN_3_MINUTES,
        "error_details": {"type": "E", "message": "one\ntwo"},
    }
    lines = [words_of(text_of(line)) for line in viewer.fields_of(item, NOW)]
    assert lines[:4] == [
        "↻ backing off: attempt 2 in 3 m 05 s",
        "error_details E",
        "one",
        "two",
    ]
    assert "child run c-1" in lines
    assert "started_at 2026-01-02 03:03:05.000Z" in lines
    point = {"kind": "signal", "name": "approve", "at": DUE}
    run = [words_of(text_of(line)) for line in viewer.fields_of({"latest_point": point}, NOW)]
    assert run[1:] == ["latest_point signal approve", "2026-01-02 16:03:50.678Z"]
    assert viewer.fields_of({}, NOW) == []


def test_durations_of_an_execution_that_ended_stand_still() -> None:
    assert viewer.counted_to({"completed_at": AGO}, NOW) == NOW - 60
    assert viewer.counted_to({"completed_at": IN_3_MINUTES}, NOW) == NOW
    assert viewer.counted_to({"completed_at": None}, NOW) == NOW


def test_activities_are_counted_by_where_they_stand() -> None:
    retrying = {"status": "retrying", "next_attempt_at": DUE}
    counted = viewer.status_counts([retrying, {"status": "pending"}, retrying])
    assert words_of(text_of(counted)) == "↻ 2 backing off ○ 1 pending"


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "▱▱▱▱▱   0%"), (0.4, "▰▰▱▱▱  40%"), (1, "▰▰▰▰▰ 100%"), (None, "")]
)
def test_progress_is_a_bar_and_a_percentage(value: object, shown: str) -> None:
    assert viewer.progress_bar(value) == shown


# The graph.


def drawn(*shape: tuple[str, tuple[str, ...]]) -> list[str]:
    rows = viewer.layout(tuple(shape))
    names = {-1: "run", **{place: name for place, (name, _) in enumerate(shape)}}
    return [row.lines + (names[row.node] if row.node is not None else "") for row in rows]


def test_activities_that_depend_on_nothing_are_a_chain_in_their_order() -> None:
    assert drawn(("a", ()), ("b", ())) == ["run", "│", "a", "│", "b"]


def test_branches_are_indented_below_their_fork_and_joined_in_its_column() -> None:
    shape = [("split", ()), ("left", ("split",)), ("more", ("left",)), ("right", ("split",))]
    assert drawn(*shape, ("join", ("more", "right"))) == [
        "run",
        "│",
        "split",
        "├─left",
        "│ │",
        "│ more",
        "├─right",
        "│",
        "join",
    ]
    assert drawn(*shape)[-1] == "╰─right"


shapes = st.integers(0, 12).flatmap(
    lambda size: st.tuples(
        *(
            st.tuples(
                st.just(f"a{place}"),
                st.sets(st.sampled_from([f"a{each}" for each in range(max(place, 1))])).map(tuple),
            )
            for place in range(size)
        )
    )
)


@given(shapes)
def test_every_activity_is_drawn_once_below_all_it_waits_for(shape: Any) -> None:
    nodes = [row.node for row in viewer.layout(shape) if row.node is not None]
    assert sorted(nodes) == [-1, *range(len(shape))]
    for place, (name, depends_on) in enumerate(shape):
        for other in set(depends_on) - {name}:
            assert nodes.index(int(other[1:])) < nodes.index(place)


def test_circles_and_unknown_dependencies_are_drawn_all_the_same() -> None:
    assert len(drawn(("a", ("b", "nobody")), ("b", ("a",)), ("c", ("c",)))) >= 4


def test_five_thousand_activities_in_any_shape_stay_narrow() -> None:
    shape = tuple((f"a{n}", (f"a{n - 1 - (n % 2 == 0)}",) if n else ()) for n in range(5000))
    rows = viewer.layout(shape)
    assert len([row for row in rows if row.node is not None]) == 5001
    assert max(len(row.lines) for row in rows) < 40


# Where to connect, and when again.


@pytest.mark.parametrize(
    ("given_address", "url"),
    [
        ("ws://h:1/api/v1/ws/executions/x", "ws://h:1/api/v1/ws/executions/x"),
        ("wss://h/p/api/v1/ws/executions/x/", "wss://h/p/api/v1/ws/executions/x"),
        (
            "http://[::1]:80/api/v1/executions/x?include=activities",
            "ws://[::1]:80/api/v1/ws/executions/x",
        ),
        ("https://h/api/v1/executions/x", "wss://h/api/v1/ws/executions/x"),
    ],
)
def test_a_rest_address_and_a_stream_address_lead_to_the_stream(
    given_address: str, url: str
) -> None:
    address = viewer.Address.of(given_address)
    assert address.url == url
    assert address.execution_id == "x"
    assert address.replaying("1-2&x") == f"{url}?replay=1-2%26x"
    assert address.replaying(None) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "ws:///",
        "http://[/",
        "http://h:x/",
        "http://h/api/v1/executions",
        "ftp://h/api/v1/executions/x",
        "ws://u:p@h/api/v1/ws/executions/x",
        "ws://h/api/v1/ws/executions/x?replay=0",
    ],
)
def test_any_other_address_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(viewer.AddressError, match=r"expected ws://|--replay|NEXUS_TOKEN"):
        viewer.Address.of(text)


def test_each_close_code_leads_to_what_the_protocol_says() -> None:
    told = {code: viewer.advice(code).value.split()[0] for code in (*viewer.CLOSE_CODES, 4999)}
    reconnecting = {1001, 1006, 1011, 4408, 4429, 4999}
    assert {code for code, what in told.items() if what == "reconnect"} == reconnecting
    assert {code for code, what in told.items() if what == "stop"} == {4400, 4401, 4404}
    assert {code for code, what in told.items() if what == "done"} == {1000}


def test_the_backoff_doubles_to_a_limit_and_is_all_chance() -> None:
    longest = [viewer.backoff_seconds(failures, lambda: 1.0) for failures in (1, 2, 3, 4, 50)]
    assert longest == [0.5, 1.0, 2.0, 4.0, 30.0]
    assert viewer.backoff_seconds(3, lambda: 0.0) == 0.0
