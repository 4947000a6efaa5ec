"""Who might view what, when: read from the records of access."""

from collections.abc import Iterator, Sequence

from tests.prove.records import FOREVER, Access


class Rights:
    """Answers for any moment; a caller of whom nothing is recorded may view nothing.

    Grants and revocations count from the moments recorded with them, which are to be no later
    than a grant's commit, and hardly earlier than a revocation's.
    """

    def __init__(self, access: Sequence[Access]) -> None:
        self._by_caller: dict[str, list[Access]] = {}
        for each in sorted(access, key=lambda each: each.at):
            self._by_caller.setdefault(each.caller, []).append(each)

    def spans(self, caller: str, execution_id: str) -> list[tuple[float, float]]:
        """The spans in which the caller may view the execution."""
        spans: list[tuple[float, float]] = []
        since: float | None = None
        for each in self._changes(caller, execution_id):
            if each.may_view and since is None:
                since = each.at
            elif not each.may_view and since is not None:
                spans.append((since, each.at))
                since = None
        if since is not None:
            spans.append((since, FOREVER))
        return spans

    def may_view(self, caller: str, execution_id: str, at: float) -> bool:
        """Whether the caller may view the execution at that moment."""
        return any(since <= at < until for since, until in self.spans(caller, execution_id))

    def may_view_within(self, caller: str, execution_id: str, since: float, until: float) -> bool:
        """Whether the caller may view the execution at any moment of the span."""
        return any(
            begins <= until and since < ends for begins, ends in self.spans(caller, execution_id)
        )

    def may_not_view_within(
        self, caller: str, execution_id: str, since: float, until: float
    ) -> bool:
        """Whether there is any moment of the span in which the caller may not view it."""
        return not any(
            begins <= since and until < ends for begins, ends in self.spans(caller, execution_id)
        )

    def last_change(self, caller: str, at: float) -> float:
        """When the caller's rights, of whatever executions, last changed before `at`."""
        return max(
            (each.at for each in self._by_caller.get(caller, ()) if each.at <= at),
            default=-FOREVER,
        )

    def _changes(self, caller: str, execution_id: str) -> Iterator[Access]:
        for each in self._by_caller.get(caller, ()):
            if each.execution_ids is None or execution_id in each.execution_ids:
                yield each
