"""What the viewer's screen shows, and how it answers its keys."""

import html
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from tests.integration.viewer_servers import (
    Script,
    demo,
    event,
    sending,
    served,
    within_deadline,
)
from tests.specs_scripts import viewer


def staying(*messages: str) -> Script:
    async def script(socket: ServerConnection, _: int) -> None:
        for message in messages:
            await socket.send(message)
        await socket.wait_closed()

    return script


def screen_text(app: Any) -> str:
    """What is on the screen, with one space wherever there are several or the style changes."""
    drawing = re.sub(r"<style>.*?</style>", "", app.export_screenshot(), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", drawing)).split())


async def until_shown(pilot: Any, *texts: str) -> None:
    while not all(text in screen_text(pilot.app) for text in texts):
        await pilot.pause(0.05)


def test_the_screen_shows_a_run_to_its_verdict_and_answers_its_keys() -> None:
    async def watch(address: str) -> int:
        app = viewer.viewer_app(viewer.Address.of(address), viewer.Options())
        async with app.run_test(size=(120, 36)) as pilot:
            await until_shown(pilot, "process_data", "live", "planned", "pause", "quit")
            assert not app.query_one("#run").display, "there is nothing to be told there"
            await pilot.press("down", "down", "down", "r")
            await until_shown(pilot, "backing off: attempt 2 in", "✗ ConnectionError")
            await until_shown(pilot, "#2", "running for", "✗ ConnectionError")
            await until_shown(pilot, "◆ signal approve")
            await until_shown(pilot, "✓ verified", "field for field", "closed 1000", "5 completed")
            assert app.follower.link.reconnects == 1
            await pilot.press("v")
            await until_shown(pilot, "back")
            await pilot.press("escape", "p")
            await until_shown(pilot, "paused")
            await pilot.press("q")
        return int(app.return_value)

    with demo("--speed", "2") as address:
        assert within_deadline(watch(address)) == 0


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (30, 8)])
def test_the_screen_shows_hostile_text_inert_and_a_mismatch_with_its_places(
    size: tuple[int, int],
) -> None:
    bad = "[red]\x1b[31m\u202e"
    activity = {"activity_id": "a", "activity_name": bad, "status": bad, "depends_on": ["b", bad]}
    execution = {
        "status": "x",
        "error_details": {"message": bad},
        "activities": [activity, 7, None],
    }
    messages = [
        event("initial_snapshot", 0, execution=execution),
        json.dumps({"type": bad}),
        event("final_snapshot", 1, execution={**execution, "status": bad}),
    ]

    async def watch() -> str:
        async with served(sending(*messages)) as address:
            app = viewer.viewer_app(viewer.Address.of(address), viewer.Options())
            async with app.run_test(size=size) as pilot:
                while app.ending is None:
                    await pilot.pause(0.05)
                await until_shown(pilot, "[red]")
                await pilot.press("down")
                while size == (120, 40) and screen_text(app).count("[red]") < 6:
                    await pilot.pause(0.05)
                await pilot.press("v")
                await until_shown(pilot, "mismatch" if size[0] > 60 else "misma")
                return screen_text(app)

    text = within_deadline(watch())
    assert "\x1b" not in text
    assert "\u202e" not in text
    if size[0] > 60:
        assert "/status" in text


ERROR = {"type": "ConnectionError", "message": "refused"}
STATES: dict[str, dict[str, Any]] = {
    "later": {"status": "pending", "scheduled_at": None},
    "soon": {"status": "pending", "scheduled_at": -7_230},
    "busy": {"status": "running", "started_at": -5, "error_details": ERROR, "retry_count": 1},
    "burnt": {
        "status": "retrying",
        "error_details": ERROR,
        "retry_count": 3,
        "next_attempt_at": 1_000,
    },
    "overdue": {"status": "retrying", "next_attempt_at": None},
    "unwanted": {"status": "running", "pending_state": "cancel_requested"},
    "held": {"status": "pending", "scheduled_at": -9, "pending_state": "paused"},
    "offspring": {
        "status": "running",
        "activity_type": "child_workflow",
        "child_execution_id": "child-of-x",
    },
    "nap": {"status": "running", "activity_type": "timer"},
}


def in_seconds(fields: dict[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        name: (now + timedelta(seconds=value)).isoformat()
        if name.endswith("_at") and value is not None
        else value
        for name, value in fields.items()
    }


def test_the_screen_tells_at_a_glance_where_every_activity_stands() -> None:
    activities = [
        {"activity_id": name, "activity_name": name, **in_seconds(fields)}
        for name, fields in STATES.items()
    ]
    execution = {
        "status": "running",
        "workflow_type": "Order",
        "latest_point": {
            "kind": "update_accepted",
            "name": "address",
            "at": "2026-01-02T03:04:05Z",
        },
        "parent_execution_id": "parent-of-x",
        "previous_execution_id": "before-x",
        "next_execution_id": None,
        "activities": activities,
    }
    snapshot = event("initial_snapshot", 0, execution=execution)

    async def watch() -> str:
        async with served(staying(snapshot)) as address:
            app = viewer.viewer_app(viewer.Address.of(address), viewer.Options())
            async with app.run_test(size=(130, 40)) as pilot:
                await until_shown(pilot, "nap", "backing off in 16 m")
                await pilot.press(*["down"] * 4)
                await until_shown(pilot, "backing off: attempt 5 in 16 m")
                return screen_text(app)

    text = within_deadline(watch())
    for told in (
        r"later planned ",
        r"soon queued 2 h 00 m",
        r"busy ✗ ConnectionError: refused #2 running \d+\.\d s",
        r"burnt ✗ ConnectionError: refused #4 backing off in 16 m \d\d s",
        r"overdue retry queued ",
        r"unwanted cancelling ",
        r"held paused \d+\.\d s",
        r"offspring child workflow child-of-x running",
        r"nap timer running",
        r"◆ update accepted address 03:04:05 parent run parent-of-x previous run before-x",
        r"↻ 1 backing off",
    ):
        assert re.search(told, text), f"{told} in {text}"
    assert "next run" not in text


def test_five_thousand_activities_scroll_to_their_end() -> None:
    activities = [
        {"activity_id": f"a{n}", "activity_name": f"step-{n}", "status": "pending"}
        for n in range(5000)
    ]
    snapshot = event("initial_snapshot", 0, execution={"status": "x", "activities": activities})

    async def watch() -> None:
        async with served(sending(snapshot)) as address:
            app = viewer.viewer_app(viewer.Address.of(address), viewer.Options())
            async with app.run_test(size=(100, 30)) as pilot:
                await until_shown(pilot, "step-0", "5,000 pending")
                await pilot.press("end")
                await until_shown(pilot, "step-4999")
                assert "step-0 " not in screen_text(app)

    within_deadline(watch())
