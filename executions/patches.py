"""Making RFC 6902 operations from what changed. Pure.

The cost follows the objects that were touched: nothing here sees the whole document.
"""

from executions.document import JsonObject

Operation = JsonObject
"""One RFC 6902 operation: `{"op": …, "path": …, "value": …}`."""


def replace_changed(path: str, before: JsonObject, after: JsonObject) -> list[Operation]:
    """Replace each field of the object at `path` that differs; both have the same fields."""
    return [
        {"op": "replace", "path": f"{path}/{field}", "value": value}
        for field, value in after.items()
        if value != before[field]
    ]


def append_activity(position: int, activity: JsonObject) -> Operation:
    """Add an activity at the end of the array, which is its position for ever."""
    return {"op": "add", "path": activity_path(position), "value": activity}


def activity_path(position: int) -> str:
    return f"/activities/{position}"
