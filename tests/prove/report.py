"""What a run was, for people: its plan before, what came of it afterwards. Pure."""

from collections import Counter
from collections.abc import Iterable

from tests.prove.plan import Plan
from tests.prove.records import Records


def plan_told(plan: Plan, database: str, web_processes: int) -> str:
    """The plan in a few words."""
    shifts = ", ".join(f"{writer.clock_shift_seconds:+g} s" for writer in plan.writers)
    return (
        f"Seed {plan.seed}: {plan.seconds:.0f} s of traffic on {database} and Valkey "
        f"({plan.topology}), {web_processes} web processes, {len(plan.writers)} writers "
        f"(clocks {shifts}), {len(plan.clients)} clients, {len(plan.lives)} executions, "
        f"{len(plan.faults)} faults"
    )


def described(records: Records) -> str:
    """What was done and recorded, in a few lines."""
    events = sum(len(log) for log in records.logs.values())
    frames = sum(len(connection.frames) for connection in records.connections)
    faults = (fault.kind for fault in records.faults)
    habits = (connection.habit for connection in records.connections)
    outcomes = (write.outcome.replace("_", " ") for write in records.writes)
    return "\n".join(
        [
            "",
            f"writes       {_listed(outcomes)}",
            f"faults       {_listed(faults)}",
            f"connections  {_listed(habits)}",
            f"{events} events, {frames} frames, {len(records.readings)} documents over REST; "
            f"quiet for {records.ended_at - records.settled_at:.0f} s",
            "",
        ]
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common())
