"""The fields of the document in their order, as the code makes it: for what describes them."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final

from executions.document import ActivityFields, ExecutionFields, execution_document


def _made() -> dict[str, Any]:
    names = (*ExecutionFields.__annotations__, *ActivityFields.__annotations__)
    known = {"created_at": datetime(2026, 1, 2, tzinfo=UTC), "attempt": 1, "depends_on": []}
    row: Any = SimpleNamespace(**(dict.fromkeys(names) | known))
    return execution_document(row, [row])


EXECUTION_FIELDS: Final = tuple(_made())
ACTIVITY_FIELDS: Final = tuple(_made()["activities"][0])
