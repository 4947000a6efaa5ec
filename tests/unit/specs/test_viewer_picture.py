"""What the viewer shows of a state, where it connects, and what it does when a connection ends."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

VIEWER = Path(__file__).parents[3] / "specs/024-execution-visualizer/workflow-stream-viewer.py"


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("workflow_stream_viewer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


viewer = load(VIEWER)
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
    }
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
    left, right = viewer.node_lines(item, viewer.dependencies(item), 0.0, True)
    lines = [*viewer.fields_of(item), left, right, viewer.status_counts([item])]
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
    late = {"activity_name": "late", "status": "running"}
    added = {"op": "add", "path": "/activities/1", "value": late}
    assert viewer.patch_in_words(document, [added]) == "new activity late: running"


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
    with pytest.raises(viewer.AddressError, match=r"expected ws://|--replay|NEXUS_VIEWER_COOKIE"):
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
