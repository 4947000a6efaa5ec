"""End to end over a real Daphne: writers in this process, viewers as real clients."""

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from websockets.exceptions import InvalidStatus

from executions.document import JsonObject
from executions.models import Execution
from executions.recording import NewActivity, changing, create_execution
from executions.signals import events_committed
from executions.statuses import ActivityStatus, ExecutionStatus
from streaming.schemas.visualization import InitialSnapshot, decode
from streaming.stream import stream_key
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer
from tests.truth import assert_log_is_whole, fold, logged_ids, nobody_listening
from tests.viewers import Viewer, Viewers
from tests.waiting import wait_until

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def started_execution(activities: int = 3) -> str:
    execution = create_execution(
        workflow_id="orders-7",
        workflow_type="Orders",
        activities=[
            NewActivity(activity_id=f"step-{number}", activity_name="step")
            for number in range(activities)
        ],
    )
    with changing(execution.execution_id) as change:
        change.execution.status = ExecutionStatus.RUNNING
        change.execution.started_at = datetime.now(UTC)
    return execution.execution_id


def advance(execution_id: str, activity_id: str, status: ActivityStatus, attempt: int = 1) -> None:
    with changing(execution_id) as change:
        activity = change.activity(activity_id)
        activity.status = status
        activity.attempt = attempt


def report_progress(execution_id: str, steps: int) -> None:
    """`steps` changes, one event each."""
    for step in range(1, steps + 1):
        with changing(execution_id) as change:
            change.activity("step-0").progress = step / (steps + 1)


def finish(execution_id: str) -> None:
    with changing(execution_id) as change:
        for activity in change.activities():
            if not ActivityStatus(activity.status).is_final:
                activity.status = ActivityStatus.COMPLETED
        change.execution.status = ExecutionStatus.COMPLETED
        change.execution.completed_at = datetime.now(UTC)


def finished_execution() -> str:
    execution_id = started_execution()
    advance(execution_id, "step-0", ActivityStatus.RUNNING)
    advance(execution_id, "step-0", ActivityStatus.RETRYING)
    advance(execution_id, "step-0", ActivityStatus.RUNNING, attempt=2)
    report_progress(execution_id, 4)
    finish(execution_id)
    return execution_id


def rest_document(web: WebServer, execution_id: str) -> tuple[JsonObject, str]:
    """REST's document and the event_id it is true at."""
    address = f"{web.http}/api/v1/executions/{execution_id}?include=activities"
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310
        return json.load(answer), answer.headers["Nexus-Event-Id"]


def test_everything_from_the_beginning_is_the_event_log_word_for_word(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = finished_execution()
    viewer = viewers.open(open_web.stream(execution_id, "0"))
    assert viewer.wait_for_close() == 1000
    log = assert_log_is_whole(execution_id)
    assert viewer.messages == [json.loads(event.message) for event in log]


def test_without_replay_a_viewer_sees_the_state_of_now_and_what_follows(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = started_execution()
    viewer = viewers.open(open_web.stream(execution_id))
    viewer.wait_for_messages(1)
    assert viewer.messages[0]["event_id"] == logged_ids(execution_id)[-1]
    assert (viewer.messages[0]["execution"], viewer.messages[0]["event_id"]) == rest_document(
        open_web, execution_id
    )
    report_progress(execution_id, 3)
    finish(execution_id)
    assert viewer.wait_for_close() == 1000
    assert viewer.event_ids == logged_ids(execution_id)[1:]
    assert (
        fold(each for each in viewer.messages if each["type"] != "heartbeat")
        == (rest_document(open_web, execution_id)[0])
    )


def test_finished_execution_without_replay_is_verifiable(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = finished_execution()
    viewer = viewers.open(open_web.stream(execution_id))
    assert viewer.wait_for_close() == 1000
    assert viewer.types == ["initial_snapshot", "final_snapshot"]
    assert viewer.event_ids == logged_ids(execution_id)[-2:]
    assert viewer.messages[0]["execution"] == viewer.messages[1]["execution"]
    assert "resync" not in viewer.messages[0]


def test_every_event_id_as_cursor_gets_strictly_what_follows(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = finished_execution()
    ids = logged_ids(execution_id)
    opened = viewers.open_many([open_web.stream(execution_id, cursor) for cursor in ids])
    for position, viewer in enumerate(opened):
        assert viewer.wait_for_close() == 1000
        assert viewer.event_ids == ids[position + 1 :]


def test_reconnecting_in_the_middle_of_a_run_loses_and_repeats_nothing(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = started_execution()
    received: list[JsonObject] = []
    cursor = "0"
    for round_number in range(8):
        viewer = viewers.open(open_web.stream(execution_id, cursor))
        report_progress(execution_id, 5)
        viewer.wait_until(lambda each: len(each.event_ids) >= 3)
        viewer.vanish() if round_number % 2 else viewer.leave()
        received += [each for each in viewer.messages if each["type"] != "heartbeat"]
        cursor = received[-1]["event_id"]
    finish(execution_id)
    viewer = viewers.open(open_web.stream(execution_id, cursor))
    assert viewer.wait_for_close() == 1000
    received += viewer.messages
    assert [each["event_id"] for each in received] == logged_ids(execution_id)
    assert fold(received) == rest_document(open_web, execution_id)[0]


def test_silence_is_filled_with_heartbeats_that_name_the_cursor(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = started_execution()
    viewer = viewers.open(open_web.stream(execution_id))
    viewer.wait_for_messages(3)
    assert viewer.types == ["initial_snapshot", "heartbeat", "heartbeat"]
    assert viewer.messages[1]["event_id"] == viewer.messages[0]["event_id"]
    assert viewer.messages[1]["timestamp"] < viewer.messages[2]["timestamp"]
    report_progress(execution_id, 1)
    viewer.wait_until(lambda each: each.types[-2:] == ["activity_patch", "heartbeat"])
    assert viewer.messages[-1]["event_id"] == viewer.messages[-2]["event_id"]


@pytest.mark.parametrize(
    "replay", ["", "-1", "1", "0-", "x", "1-2-3", "0&replay=0", "01-1", "%D9%A1-1"]
)
def test_malformed_replay_is_closed_with_what_is_accepted(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers, replay: str
) -> None:
    viewer = viewers.open(open_web.stream(started_execution(), replay))
    assert viewer.wait_for_close() == 4400
    assert viewer.close_reason == "replay must be 0 or one event_id (<milliseconds>-<sequence>)"
    assert viewer.messages == []


@pytest.mark.parametrize(
    ("execution_id", "code"),
    [
        ("no-such-execution", 4404),
        ("-malformed", 4400),
        ("x" * 65, 4400),
        ("caf%C3%A9", 4400),
        ("a%00b", 4400),
        ("..%2f..%2fadmin", 4404),
    ],
)
def test_unknown_or_malformed_execution_is_refused_by_its_close_code(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers, execution_id: str, code: int
) -> None:
    viewer = viewers.open(open_web.stream(execution_id))
    assert viewer.wait_for_close() == code
    assert viewer.close_reason
    assert viewer.messages == []


def test_unknown_path_is_refused_by_its_close_code(open_web: WebServer, viewers: Viewers) -> None:
    assert viewers.open(f"{open_web.ws}/api/v1/ws/nothing/here").wait_for_close() == 4404


def resync_reason(viewer: Viewer) -> str:
    first = decode(json.dumps(viewer.messages[0]))
    assert isinstance(first, InitialSnapshot)
    assert first.resync
    return first.resync.reason


def test_cursor_of_another_execution_or_of_the_future_gets_a_resync(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id, other = finished_execution(), finished_execution()
    ids = logged_ids(execution_id)
    milliseconds, sequence = map(int, ids[-1].split("-"))
    cursors = [
        logged_ids(other)[2],
        f"{milliseconds}-{sequence + 1}",
        f"{milliseconds + 60_000}-{sequence + 500}",
        "0-0",
    ]
    for cursor in cursors:
        viewer = viewers.open(open_web.stream(execution_id, cursor))
        assert viewer.wait_for_close() == 1000
        assert resync_reason(viewer) == "unknown"
        assert fold([*viewer.messages]) == rest_document(open_web, execution_id)[0]


def test_cursor_older_than_kept_events_gets_a_resync(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = finished_execution()
    ids = logged_ids(execution_id)
    execution = Execution.objects.get(pk=execution_id)
    execution.events.model.unrecorded_writes.filter(
        execution_id=execution_id, sequence__lt=4
    ).delete()
    valkey.client.xtrim(stream_key(execution_id), minid=ids[4])
    for cursor in ("0", ids[0], ids[3]):
        viewer = viewers.open(open_web.stream(execution_id, cursor))
        assert viewer.wait_for_close() == 1000
        assert resync_reason(viewer) == "trimmed"
    viewer = viewers.open(open_web.stream(execution_id, ids[4]))
    assert viewer.wait_for_close() == 1000
    assert viewer.event_ids == ids[5:]


def test_client_that_sends_messages_gets_no_answer_and_is_closed_after_a_limit(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = started_execution()
    viewer = viewers.open(open_web.stream(execution_id))
    viewer.wait_for_messages(1)
    for number in range(20):
        viewer.send(f"message {number}" if number % 2 else b"\xff\x00")
    report_progress(execution_id, 1)
    viewer.wait_until(lambda each: "activity_patch" in each.types)
    assert viewer.close_code is None
    viewer.send("one more")
    assert viewer.wait_for_close() == 4400
    assert set(viewer.types) <= {"initial_snapshot", "activity_patch", "heartbeat"}


def test_two_hundred_viewers_of_one_execution_all_see_the_same(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = started_execution()
    opened = viewers.open_many([open_web.stream(execution_id, "0")] * 200)
    report_progress(execution_id, 20)
    finish(execution_id)
    ids = logged_ids(execution_id)
    for viewer in opened:
        assert viewer.wait_for_close() == 1000
        assert viewer.event_ids == ids


def test_one_viewer_each_of_two_hundred_executions(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    executions = [started_execution(activities=1) for _ in range(200)]
    opened = viewers.open_many([open_web.stream(each, "0") for each in executions])
    for execution_id in executions:
        report_progress(execution_id, 2)
        finish(execution_id)
    for execution_id, viewer in zip(executions, opened, strict=True):
        assert viewer.wait_for_close() == 1000
        assert viewer.event_ids == logged_ids(execution_id)


def test_what_a_writer_committed_but_did_not_publish_reaches_viewers_and_the_stream(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = started_execution()
    viewer = viewers.open(open_web.stream(execution_id, "0"))
    viewer.wait_for_messages(2)
    with nobody_listening():
        report_progress(execution_id, 3)
        finish(execution_id)
    assert viewer.wait_for_close() == 1000
    assert viewer.event_ids == logged_ids(execution_id)
    wait_until(lambda: valkey.stream_ids(stream_key(execution_id)) == viewer.event_ids)


def test_valkey_killed_and_empty_again_under_viewers_loses_and_repeats_nothing(
    open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = started_execution()
    viewer = viewers.open(open_web.stream(execution_id, "0"))
    report_progress(execution_id, 3)
    viewer.wait_until(lambda each: len(each.event_ids) == 5)
    valkey.kill()
    try:
        report_progress(execution_id, 3)
        late = viewers.open(open_web.stream(execution_id, "0"))
        late.wait_until(lambda each: len(each.event_ids) == 8)
        viewer.wait_until(lambda each: len(each.event_ids) == 8)
    finally:
        valkey.start()
    finish(execution_id)
    for each in (viewer, late):
        assert each.wait_for_close() == 1000
        assert each.event_ids == logged_ids(execution_id)


class TestAccess:
    """Who is answered how, where reading is not open."""

    def session_of(self, *permissions: str) -> dict[str, str]:
        user = User.objects.create_user("olga", password="long enough, 7")
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        return {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}

    def test_anonymous_is_told_to_log_in_whether_the_execution_exists_or_not(
        self, guarded_web: WebServer, valkey: ValkeyServer, viewers: Viewers
    ) -> None:
        for execution_id in (started_execution(), "no-such-execution"):
            viewer = viewers.open(guarded_web.stream(execution_id, "0"))
            assert viewer.wait_for_close() == 4401
            assert viewer.messages == []

    def test_user_without_the_permission_cannot_tell_whether_it_exists(
        self, guarded_web: WebServer, valkey: ValkeyServer, viewers: Viewers
    ) -> None:
        cookie = self.session_of()
        for execution_id in (started_execution(), "no-such-execution"):
            viewer = viewers.open(guarded_web.stream(execution_id), cookie)
            assert viewer.wait_for_close() == 4404
            assert viewer.messages == []

    def test_user_with_the_permission_sees_it(
        self, guarded_web: WebServer, valkey: ValkeyServer, viewers: Viewers
    ) -> None:
        cookie = self.session_of("view_execution")
        viewer = viewers.open(guarded_web.stream(started_execution()), cookie)
        viewer.wait_for_messages(1)
        assert viewer.types == ["initial_snapshot"]

    @pytest.mark.parametrize(
        ("origin", "status"),
        [("http://evil.example", 403), ("http://127.0.0.1:1", 403), ("null", 400)],
    )
    def test_page_of_another_origin_gets_no_connection(
        self,
        open_web: WebServer,
        valkey: ValkeyServer,
        viewers: Viewers,
        origin: str,
        status: int,
    ) -> None:
        with pytest.raises(InvalidStatus) as refusal:
            viewers.open(open_web.stream(started_execution()), {"Origin": origin})
        assert refusal.value.response.status_code == status

    def test_page_of_the_same_origin_is_served(
        self, open_web: WebServer, valkey: ValkeyServer, viewers: Viewers
    ) -> None:
        viewer = viewers.open(open_web.stream(started_execution()), {"Origin": open_web.http})
        viewer.wait_for_messages(1)


def test_signal_without_receivers_is_what_the_faults_above_rely_on() -> None:
    with nobody_listening():
        assert not events_committed.has_listeners(Execution)
    assert events_committed.has_listeners(Execution)
