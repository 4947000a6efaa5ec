"""Telling of changed access, from a thread of its own."""

import threading

from structlog.testing import capture_logs

from streaming.access.notices import USERS_PER_NOTICE, AccessNotices

DEADLINE_SECONDS = 10.0


class Layer:
    """Takes notices, once it is let."""

    def __init__(self) -> None:
        self.sent: list[list[str] | None] = []
        self.lets = threading.Event()
        self.begun = threading.Event()
        self.fails = False

    def send(self, users: list[str] | None) -> None:
        self.begun.set()
        assert self.lets.wait(DEADLINE_SECONDS)
        if self.fails:
            raise ConnectionError("it is away")
        self.sent.append(users)


def told(layer: Layer, *first: str | None, then: list[str | None]) -> None:
    """Tell of the first, of the others while the first are being sent, and wait for the end."""
    notices = AccessNotices(layer.send)
    for user in first:
        notices.tell(user)
    assert layer.begun.wait(DEADLINE_SECONDS)
    thread = notices._thread
    assert thread is not None
    for user in then:
        notices.tell(user)
    layer.lets.set()
    thread.join(DEADLINE_SECONDS)
    assert notices._thread is None


def test_what_waits_is_told_together_each_user_once() -> None:
    layer = Layer()
    told(layer, "1", then=["3", "2", "3"])
    assert layer.sent == [["1"], ["2", "3"]]


def test_all_includes_each() -> None:
    layer = Layer()
    told(layer, "1", then=["2", None, "3"])
    assert layer.sent == [["1"], None]


def test_very_many_are_told_of_as_all() -> None:
    layer = Layer()
    told(layer, "x", then=[str(number) for number in range(USERS_PER_NOTICE + 1)])
    assert layer.sent == [["x"], None]


def test_failure_is_logged_and_what_comes_later_is_told() -> None:
    layer = Layer()
    layer.fails = True
    with capture_logs() as logs:
        told(layer, "1", then=["2"])
    assert [(entry["event"], entry["error"]) for entry in logs] == [
        ("access_notice_lost", "it is away")
    ] * 2
    layer.fails = False
    layer.lets.clear()
    layer.begun.clear()
    told(layer, "3", then=[])
    assert layer.sent == [["3"]]
