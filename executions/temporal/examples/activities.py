"""Activities of the example workflows: they take visible time and touch nothing real."""

import asyncio
from dataclasses import dataclass

from temporalio import activity
from temporalio.exceptions import ApplicationError


@dataclass(frozen=True)
class Step:
    """What an example activity is told: how long to take, and which part it is of how many."""

    seconds: float
    part: int = 0
    parts: int = 1


@activity.defn
async def fetch_data(step: Step) -> int:
    await asyncio.sleep(step.seconds)
    return 1_000


@activity.defn
async def validate_input(step: Step) -> None:
    await asyncio.sleep(step.seconds)


@activity.defn
async def process_data(step: Step) -> None:
    """Fails on its first attempt and succeeds on the second; reports progress."""
    for done in range(1, 5):
        await asyncio.sleep(step.seconds / 4)
        activity.heartbeat(done / 4)
    if activity.info().attempt == 1:
        raise ApplicationError("The connection was reset after 512 rows", type="ConnectionReset")


@activity.defn
async def send_notification(step: Step) -> None:
    await asyncio.sleep(step.seconds)


@activity.defn
async def cleanup(step: Step) -> None:
    await asyncio.sleep(step.seconds)


@activity.defn
async def process_part(step: Step) -> int:
    await asyncio.sleep(step.seconds)
    return step.part


@activity.defn
async def join_parts(step: Step) -> int:
    await asyncio.sleep(step.seconds)
    return step.parts


@activity.defn
async def charge_card(step: Step) -> None:
    """Fails on every attempt."""
    await asyncio.sleep(step.seconds)
    raise ApplicationError("The card was declined", type="CardDeclined")


@activity.defn
async def render_video(step: Step) -> None:
    """Works through its parts with a heartbeat after each; ends at once when cancelled."""
    for done in range(1, step.parts + 1):
        await asyncio.sleep(step.seconds)
        activity.heartbeat({"progress": done / step.parts})


ALL_ACTIVITIES = (
    fetch_data,
    validate_input,
    process_data,
    send_notification,
    cleanup,
    process_part,
    join_parts,
    charge_card,
    render_video,
)
