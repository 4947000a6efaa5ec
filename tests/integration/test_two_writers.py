"""Two and more processes write one execution, and many, at once: nothing is lost or mixed."""

import json
import re
from itertools import pairwise

import pytest

from executions.events import CommittedEvent
from tests.servers.web import session_environment
from tests.truth import assert_log_is_whole
from tests.writers import writers_running

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def written_at_once(
    execution_ids: list[str], writers: int, changes: int
) -> tuple[dict[str, int], dict[str, list[CommittedEvent]]]:
    """Let the processes write, then finish, the executions: what they counted, and the logs."""
    counts = {"accepted": 0, "refused": 0}
    options = ("--changes", str(changes), "--finish")
    seeds = range(1, writers + 1)
    with writers_running(session_environment(), execution_ids, seeds, *options) as running:
        for writer in running:
            for name, count in writer.counts().items():
                counts[name] += count
        for writer in running:
            writer.go_on()
        for writer in running:
            writer.ended()
    return counts, {each: assert_log_is_whole(each) for each in execution_ids}


def authors(log: list[CommittedEvent]) -> list[str]:
    """The seeds of the writers of the events that show their writer, in order."""
    seeds = []
    for event in log[1:-1]:
        values = json.dumps([operation["value"] for operation in json.loads(event.message)["ops"]])
        seeds += re.findall(r"by-(\d+)-", values)[:1]
    return seeds


@pytest.mark.parametrize(("writers", "changes"), [(2, 150), (4, 80)])
def test_processes_that_write_at_once_leave_every_log_whole(writers: int, changes: int) -> None:
    execution_ids = [f"contested-{number}" for number in range(10)]
    counts, logs = written_at_once(execution_ids, writers, changes)
    assert counts["accepted"] + counts["refused"] == writers * changes
    assert counts["refused"] > 0
    # of each: creation, the changes (of one or two events each), the end and its snapshot
    changed = sum(len(log) - 3 for log in logs.values())
    assert counts["accepted"] <= changed <= 2 * counts["accepted"]
    seen = authors(logs[execution_ids[0]])
    assert len(set(seen)) == writers
    switches = sum(one != other for one, other in pairwise(seen))
    assert switches > writers, "the writers did not write at the same time"
