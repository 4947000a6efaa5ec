"""The ids by which the document knows what a run does. Pure.

Temporal's own ids where they can be had: one that is used again becomes `<id>~2`,
`<id>~3` … in the order of scheduling, and what a workflow definition planned has its
planned id, so that every reader of a history arrives at the same ids.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence

from executions.temporal.history.names import fitted, named
from executions.temporal.history.plan import PlannedActivity


class DocumentIds:
    """Gives out each id once."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._uses: Counter[str] = Counter()
        self._untaken: dict[str, None] = {}
        self._planned_by_name: defaultdict[str, deque[str]] = defaultdict(deque)

    def adopt(self, plan: Sequence[PlannedActivity]) -> None:
        """Keep these ids for what is planned; before any other is given out."""
        for planned in plan:
            self._given.add(planned.activity_id)
            self._untaken[planned.activity_id] = None
            self._planned_by_name[planned.activity_name].append(planned.activity_id)

    def planned(self, activity_id: str, activity_name: str) -> str | None:
        """The id of the first planned activity that this one is, taken from here on.

        That is the one of the same id, else the first of the same name.
        """
        if not self._untaken:
            return None
        taken = fitted(activity_id)
        if taken not in self._untaken:
            waiting = self._planned_by_name.get(fitted(activity_name), deque())
            while waiting and waiting[0] not in self._untaken:
                waiting.popleft()
            if not waiting:
                return None
            taken = waiting.popleft()
        del self._untaken[taken]
        return taken

    def unplanned(self, activity_id: str) -> str:
        """An id for what nobody planned."""
        activity_id = named(activity_id)
        while True:
            self._uses[activity_id] += 1
            uses = self._uses[activity_id]
            given = fitted(activity_id, "" if uses == 1 else f"~{uses}")
            if given not in self._given:
                self._given.add(given)
                return given

    def never_taken(self) -> list[str]:
        """The ids of what was planned and never came, in the plan's order."""
        return list(self._untaken)
