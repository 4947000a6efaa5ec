"""P6: no client makes the server's memory grow without limit, or delays another."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from statistics import median
from typing import Final

from tests.prove.records import Connection, Habit, Sample
from tests.prove.validators.histories import Histories, Reaction, ToldEvents
from tests.prove.validators.verdicts import PromiseVerdict, Violation

MIB: Final = 1024 * 1024

PROCESS_BYTES: Final = 256 * MIB
"""What a web process may take whatever it serves: Python, Django, Daphne and their caches."""

CONNECTION_BYTES: Final = 2 * MIB
"""What may wait for one connection: 1 MiB in its queue, and what is being sent of it."""

GROWTH_BYTES: Final = 64 * MIB
"""How much higher the second half of a run may lie than the first."""

UNREAD_BYTES: Final = 16 * MIB
"""What the kernel's buffers of a connection and its queue together never hold."""

BEFORE_FAULTS_SECONDS: Final = 0.5
RECOVERY_SECONDS: Final = 3.0
"""How long before a fault, and how long after it, latencies are not judged."""

SETTLING_SECONDS: Final = 2.0
"""How long a connection may take to catch up before its latencies are judged."""

TYPICAL_SECONDS: Final = 1.0
WORST_SECONDS: Final = 5.0
"""The bounds of the latencies' p50 and p99: generous, two cores are shared by everything."""

_SLOW: Final = (Habit.STALLS, Habit.NEVER_READS)


def judge(histories: Histories) -> PromiseVerdict:
    """Judge the web processes' memory, slow clients' ends, and the others' latencies."""
    verdict = PromiseVerdict(
        "P6", "bounded", needed=("memory samples", "slow clients", "latencies")
    )
    verdict.violations += _memory(histories, verdict)
    verdict.violations += _slow_clients(histories, verdict)
    verdict.violations += _latencies(histories, verdict)
    return verdict


def _memory(histories: Histories, verdict: PromiseVerdict) -> Iterator[Violation]:
    records = histories.records
    for web in sorted({each.web for each in records.connections if each.opened_at is not None}):
        samples = sorted(
            (each for each in records.samples if each.process == web), key=lambda each: each.at
        )
        verdict.count("memory samples", len(samples))
        if not samples:
            yield Violation(f"the memory of {web} was never looked at")
            continue
        peak = max(samples, key=lambda each: each.resident_bytes)
        verdict.figures[f"peak of {web}, MiB"] = peak.resident_bytes / MIB
        open_at_once = _most_at_once(histories, web)
        bound = PROCESS_BYTES + open_at_once * CONNECTION_BYTES
        if peak.resident_bytes > bound:
            yield Violation(
                f"{web} took {peak.resident_bytes / MIB:.0f} MiB at {histories.seconds(peak.at)}; "
                f"with {open_at_once} connections at most {bound / MIB:.0f} MiB are allowed"
            )
        growth = _growth_bytes(samples)
        verdict.figures[f"growth of {web}, MiB"] = growth / MIB
        if growth > GROWTH_BYTES:
            yield Violation(
                f"{web} grew by {growth / MIB:.0f} MiB from the run's first half to its second; "
                f"at most {GROWTH_BYTES / MIB:.0f} MiB are allowed"
            )


def _most_at_once(histories: Histories, web: str) -> int:
    changes = []
    for each in histories.records.connections:
        if each.web == web and each.opened_at is not None:
            changes += [(each.opened_at, 1), (histories.ended_at(each), -1)]
    return max(accumulate(change for _, change in sorted(changes)), default=0)


def _growth_bytes(samples: list[Sample]) -> float:
    """From the median of the first half to that of the last quarter: no peak decides."""
    sizes = [each.resident_bytes for each in samples]
    return median(sizes[-(-3 * len(sizes) // 4) - 1 :]) - median(sizes[: len(sizes) // 2 + 1])


def _slow_clients(histories: Histories, verdict: PromiseVerdict) -> Iterator[Violation]:
    """Clients that were sent more than can wait anywhere, and are served as if they read."""
    for connection in histories.records.connections:
        log = histories.logs.get(connection.execution_id)
        if connection.habit not in _SLOW or not connection.not_reading or log is None:
            continue
        verdict.count("slow clients")
        for since, until in connection.not_reading:
            ended = histories.ended_at(connection)
            unread = _bytes_committed(histories, connection, since, min(until, ended))
            if unread <= UNREAD_BYTES:
                continue
            verdict.count("clients that overflowed")
            resynced = any(
                step.reaction is Reaction.RESYNC and step.message and step.message.reason == "slow"
                for step in histories.walk(connection)
            )
            dropped = connection.ended_at is not None and not connection.left_by_client
            if not resynced and not dropped:
                yield histories.violation(
                    f"{unread / MIB:.0f} MiB were committed while the client did not read, and "
                    "it was neither resynced nor closed",
                    connection,
                )
                break


def _bytes_committed(
    histories: Histories, connection: Connection, since: float, until: float
) -> int:
    log = histories.logs[connection.execution_id]
    told: ToldEvents = histories.told[connection.execution_id]
    rows = range(told.newest_before(since) + 1, told.newest_before(until) + 1)
    return sum(len(row.message.encode()) for n in rows if (row := log.at(n)))


def _latencies(histories: Histories, verdict: PromiseVerdict) -> Iterator[Violation]:
    told_at = {
        (place.execution_id, place.sequence): write.told_at
        for write, place in histories.committed_events()
    }
    calm = _CalmSpans(histories)
    latencies: list[float] = []
    for connection in histories.records.connections:
        if connection.habit in _SLOW or connection.opened_at is None:
            continue
        begins = connection.opened_at + SETTLING_SECONDS
        for step in histories.walk(connection):
            if step.reaction is Reaction.APPLIED and step.after is not None:
                told = told_at.get((connection.execution_id, step.after.sequence))
                if told is None or told < begins or not calm.holds(told):
                    continue
                if not histories.seconds_not_reading(connection, told, step.at):
                    latencies.append(max(0.0, step.at - told))
    verdict.count("latencies", len(latencies))
    if not latencies:
        return
    latencies.sort()
    for name, hundredth, bound in (("p50", 50, TYPICAL_SECONDS), ("p99", 99, WORST_SECONDS)):
        latency = latencies[max(0, -(-len(latencies) * hundredth // 100) - 1)]
        verdict.figures[f"commit to client {name}, ms"] = latency * 1000
        if latency > bound:
            yield Violation(
                f"the {name} from commit to client is {latency:.2f} s, at most {bound:.0f} s are "
                f"allowed (of {len(latencies)}, apart from faults)"
            )


class _CalmSpans:
    """Whether a moment is apart from every fault."""

    def __init__(self, histories: Histories) -> None:
        self._begins: list[float] = []
        self._ends: list[float] = []
        for fault in sorted(histories.records.faults, key=lambda fault: fault.at):
            begins, ends = fault.at - BEFORE_FAULTS_SECONDS, fault.until + RECOVERY_SECONDS
            if self._ends and begins <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], ends)
            else:
                self._begins.append(begins)
                self._ends.append(ends)

    def holds(self, at: float) -> bool:
        place = bisect_right(self._begins, at) - 1
        return place < 0 or at > self._ends[place]
