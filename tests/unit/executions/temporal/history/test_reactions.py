"""What a workflow had seen end when it scheduled something, by event."""

from datetime import timedelta

from executions.temporal.history.message_values import LATEST
from executions.temporal.history.reactions import Ended, Reactions, later
from tests.histories.reading import (
    at,
    changes_of,
    completed,
    depends_on,
    history,
    scheduled,
    started,
    task_completed,
    task_started,
)


def test_nothing_was_seen_before_the_first_task() -> None:
    assert Reactions().scheduling() == ()


def test_what_was_seen_is_told_in_the_order_of_scheduling() -> None:
    reactions = Reactions()
    reactions.ended(Ended(5, 3, "b", at(5)))
    reactions.ended(Ended(6, 2, "a", at(6)))
    reactions.task_started(at(7))
    reactions.task_completed(7)
    assert reactions.scheduling() == ("a", "b")
    assert reactions.scheduling() is reactions.scheduling()


def test_what_was_scheduled_by_a_local_activity_alone_waits_for_the_rest() -> None:
    """A local activity that was scheduled before something ended leaves that to the next."""
    reactions = Reactions()
    for event_id in (5, 6):
        reactions.ended(Ended(event_id, event_id - 3, str(event_id), at(event_id)))
    reactions.task_started(at(7))
    reactions.task_completed(7)
    reaction = reactions.local_activity(at(4), at(7.5))
    assert reaction.depends_on == ("5",)
    assert reaction.ran == timedelta(seconds=0.5)
    assert reactions.local_activity(at(4), None).depends_on == ("5",)
    reactions.local_activity_ended(Ended(8, 8, "local", at(7.5)), at(4), reaction.ran)
    assert reactions.scheduling() == ("6", "local")


def test_moment_beyond_what_there_is_is_the_latest() -> None:
    assert later(LATEST, timedelta(seconds=1)) == LATEST
    assert later(at(1), timedelta(seconds=1)) == at(2)


def test_what_ended_during_a_workflow_task_is_delivered_to_the_next() -> None:
    changes = changes_of(
        history(
            started(),
            task_started(),
            task_completed(2),
            scheduled("a"),
            task_started(),
            completed(4),
            task_completed(5),
            scheduled("unrelated"),
            task_started(),
            task_completed(9),
            scheduled("after a"),
        )
    )
    assert depends_on(changes) == {"a": (), "unrelated": (), "after a": ("a",)}


def test_what_was_delivered_to_a_failed_workflow_task_counts_when_it_is_repeated() -> None:
    changes = changes_of(
        history(
            started(),
            scheduled("a"),
            completed(2),
            task_started(),
            ("workflow_task_failed", {"started_event_id": 4}),
            task_started(),
            task_completed(6),
            scheduled("b"),
        )
    )
    assert depends_on(changes)["b"] == ("a",)


def test_activities_of_one_task_depend_on_the_same() -> None:
    changes = changes_of(
        history(
            started(),
            scheduled("a"),
            completed(2),
            task_started(),
            task_completed(4),
            scheduled("b"),
            scheduled("c"),
        )
    )
    assert depends_on(changes) == {"a": (), "b": ("a",), "c": ("a",)}
