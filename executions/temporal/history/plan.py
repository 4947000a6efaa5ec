"""The activities that a workflow definition plans. Pure.

    {"activities": [
        {"activity_id": "charge", "activity_name": "charge_card", "depends_on": ["reserve"]}, …
    ]}

`activity_name` is the type of activity by which Temporal's history tells which planned one
has been scheduled; without it, it is the same as `activity_id`. Whatever else a definition
holds is kept and shown, and means nothing here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from executions.values import DEPENDS_ON_ENTRIES, NAME_BYTES, storable_text

PLANNED_ACTIVITIES: Final = DEPENDS_ON_ENTRIES


class MalformedPlanError(ValueError):
    """The definition's `activities` are not of the form that is accepted; the message says why."""


@dataclass(frozen=True, slots=True)
class PlannedActivity:
    activity_id: str
    activity_name: str
    depends_on: tuple[str, ...] = ()


def planned_activities(definition: Any) -> tuple[PlannedActivity, ...]:
    """What the definition plans, in its order; nothing where it has no `activities`.

    Raises MalformedPlanError.
    """
    if not isinstance(definition, Mapping) or "activities" not in definition:
        return ()
    listed = definition["activities"]
    if not isinstance(listed, list | tuple) or len(listed) > PLANNED_ACTIVITIES:
        raise MalformedPlanError(f"activities must be a list of at most {PLANNED_ACTIVITIES}")
    plan = tuple(_planned(index, entry) for index, entry in enumerate(listed))
    ids = [activity.activity_id for activity in plan]
    if len(set(ids)) < len(ids):
        raise MalformedPlanError("an activity_id is planned twice")
    if unknown := {name for activity in plan for name in activity.depends_on} - set(ids):
        raise MalformedPlanError(f"depends_on names {sorted(unknown)[0]!r}, which is not planned")
    return plan


def _planned(index: int, entry: Any) -> PlannedActivity:
    if not isinstance(entry, Mapping):
        raise MalformedPlanError(f"activities[{index}] must be an object")
    activity_id = _name(index, "activity_id", entry.get("activity_id"))
    depends_on = entry.get("depends_on", [])
    if not isinstance(depends_on, list | tuple):
        raise MalformedPlanError(f"activities[{index}].depends_on must be a list of activity_ids")
    return PlannedActivity(
        activity_id,
        _name(index, "activity_name", entry.get("activity_name", activity_id)),
        tuple(dict.fromkeys(_name(index, "depends_on", name) for name in depends_on)),
    )


def _name(index: int, field: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise MalformedPlanError(f"activities[{index}].{field} must be text that is not empty")
    if len(value.encode(errors="replace")) > NAME_BYTES:
        raise MalformedPlanError(f"activities[{index}].{field} has more than {NAME_BYTES} bytes")
    return storable_text(value)
