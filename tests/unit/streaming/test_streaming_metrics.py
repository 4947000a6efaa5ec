"""The labels of metrics, and what is measured of an event on its way."""

import time

import pytest
from prometheus_client import REGISTRY

from executions.events import CommittedEvent
from executions.identifiers import EventId
from streaming import metrics
from streaming.close_codes import CloseCode


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("code", [code.code for code in CloseCode])
def test_each_of_our_close_codes_is_counted_by_itself(code: int) -> None:
    before = value("nexus_closes_total", code=str(code), by="server")
    metrics.closed(code, by_server=True)
    assert value("nexus_closes_total", code=str(code), by="server") == before + 1


@pytest.mark.parametrize("code", [1002, 3000, 4999])
def test_codes_that_clients_make_up_are_counted_together(code: int) -> None:
    before = value("nexus_closes_total", code="other", by="client")
    metrics.closed(code, by_server=False)
    assert value("nexus_closes_total", code="other", by="client") == before + 1


def test_only_what_was_announced_is_measured_from_its_hearing() -> None:
    now = EventId(time.time_ns() // 1_000_000, 1)
    heard, whole = (
        f"nexus_{name}_seconds_count" for name in ("stream_to_socket", "commit_to_socket")
    )
    before = value(heard), value(whole)
    metrics.sent_live(CommittedEvent(now, "{}"))
    assert (value(heard), value(whole)) == (before[0], before[1] + 1)
    metrics.sent_live(metrics.heard(now, "{}"))
    assert (value(heard), value(whole)) == (before[0] + 1, before[1] + 2)


def test_an_event_of_a_clock_that_is_ahead_took_no_time() -> None:
    before = value("nexus_commit_to_socket_seconds_sum")
    metrics.sent_live(CommittedEvent(EventId(time.time_ns() // 1_000_000 + 60_000, 1), "{}"))
    assert value("nexus_commit_to_socket_seconds_sum") == before


def test_a_heard_event_is_an_event_with_the_time_of_its_hearing() -> None:
    event_id = EventId(1, 2)
    before = time.perf_counter()
    event = metrics.heard(event_id, "text")
    assert event == CommittedEvent(event_id, "text")
    assert before <= event.heard_at <= time.perf_counter()


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, "0.0005"), (0.0005, "0.0005"), (0.0006, "0.001"), (99.0, "+Inf")]
)
def test_a_duration_is_in_its_bucket_and_in_all_greater_ones(seconds: float, bucket: str) -> None:
    name = "nexus_stream_to_socket_seconds"
    bounds = [*map(str, metrics._LATENCIES), "+Inf"]
    before = {bound: value(f"{name}_bucket", le=bound) for bound in bounds}
    total = value(f"{name}_sum")
    metrics.stream_to_socket_seconds.observe(seconds)
    grown = [value(f"{name}_bucket", le=bound) - before[bound] for bound in bounds]
    index = bounds.index(bucket)
    assert grown == [0] * index + [1] * (len(bounds) - index)
    assert value(f"{name}_sum") == pytest.approx(total + seconds)
    assert value(f"{name}_count") == value(f"{name}_bucket", le="+Inf")
