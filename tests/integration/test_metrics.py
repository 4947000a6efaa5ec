"""What /metrics says after a known traffic, and to whom."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Final

import pytest
from django.contrib.auth.models import Permission, User
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from executions.recording import changing
from executions.statuses import ExecutionStatus
from streaming.activity_update_publisher import publisher
from tests import settings as test_settings
from tests.rest import PASSWORD, a_token, a_user, basic, client_of, with_token
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer, session_environment, web_running
from tests.viewers import Viewers
from tests.waiting import wait_until

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

METRICS: Final = "/metrics"

Values = dict[str, float]


@pytest.fixture(scope="module")
def web(django_db_setup: None, session_valkey: ValkeyServer) -> Iterator[WebServer]:
    environment = session_environment(NEXUS_OPEN_READING="1", NEXUS_HEARTBEAT_SECONDS="30")
    with web_running(test_settings.SESSION_DIR / "metrics-web.log", environment) as server:
        yield server


def scraped(web: WebServer) -> Values:
    with urllib.request.urlopen(f"{web.http}{METRICS}", timeout=10) as answer:  # noqa: S310
        return parsed(answer.read().decode())


def is_ready(web: WebServer) -> bool:
    try:
        with urllib.request.urlopen(f"{web.http}/health/ready", timeout=10):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False


def own() -> Values:
    """Of this process, which writes."""
    response = client_of(User.objects.filter(is_superuser=True).get()).get(METRICS)
    return parsed(response.content.decode())


def parsed(text: str) -> Values:
    return {
        sample.name + "".join(f" {name}={each}" for name, each in sorted(sample.labels.items())): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def grown(before: Values, after: Values, *names: str) -> dict[str, float]:
    return {name: after.get(name, 0.0) - before.get(name, 0.0) for name in names}


def change(execution_id: str, times: int) -> None:
    for number in range(times):
        with changing(execution_id) as change:
            change.activity("step").progress = (number + 1) / 100


def test_so_many_events_to_so_many_viewers_are_counted_exactly(
    web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    User.objects.create_superuser("root")
    # A hub that has just connected reads, besides, what it may have missed.
    wait_until(lambda: is_ready(web))
    execution_id = an_execution("step")
    other_id = an_execution("step")
    wrote, before = own(), scraped(web)

    watching = viewers.open_many([web.stream(execution_id)] * 7 + [web.stream(other_id)])
    for viewer in watching:
        viewer.wait_for_messages(1)
    change(execution_id, 10)
    for viewer in watching[:7]:
        viewer.wait_for_messages(11)
    # What is sent is counted after it was sent.
    wait_until(
        lambda: scraped(web)["nexus_events_sent_total"] >= 70 + before["nexus_events_sent_total"]
    )

    after = scraped(web)
    assert (after["nexus_connections"], after["nexus_watched_executions"]) == (8, 2)
    assert (after["nexus_hub_hears_valkey"], after["nexus_queued_characters"]) == (1, 0)
    assert after["nexus_publish_backlog_executions"] == 0
    live = ("nexus_stream_to_socket_seconds_count", "nexus_commit_to_socket_seconds_count")
    assert grown(before, after, "nexus_events_sent_total", *live, "nexus_gaps_filled_total") == {
        "nexus_events_sent_total": 70,
        **dict.fromkeys(live, 70),
        "nexus_gaps_filled_total": 0,
    }
    # Viewers that come at once share reads, at least one for each execution.
    snapshots = after["nexus_snapshots_read_total"] - before["nexus_snapshots_read_total"]
    assert 2 <= snapshots <= 8
    sums = grown(before, after, *(name.replace("_count", "_sum") for name in live))
    assert all(0 < seconds < 70 * 5 for seconds in sums.values())

    written = own()
    assert grown(
        wrote,
        written,
        "nexus_events_committed_total",
        "nexus_events_published_total",
        "nexus_commit_to_stream_seconds_count",
        "nexus_publish_failures_total",
    ) == {
        "nexus_events_committed_total": 10,
        "nexus_events_published_total": 10,
        "nexus_commit_to_stream_seconds_count": 10,
        "nexus_publish_failures_total": 0,
    }


def test_resyncs_and_closes_are_counted_by_why(
    web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = an_execution("step")
    before = scraped(web)
    unknown = viewers.open(web.stream(execution_id, "1000-0"))
    unknown.wait_for_messages(1)
    unknown.leave()
    viewers.open(web.stream(execution_id, "nonsense")).wait_for_close()
    finished = viewers.open(web.stream(execution_id, "0"))
    finished.wait_for_messages(1)
    with changing(execution_id) as change:
        change.execution.status = ExecutionStatus.COMPLETED
    assert finished.wait_for_close() == 1000
    viewers.open(web.stream("nobody-knows-this")).wait_for_close()
    vanished = viewers.open(web.stream(an_execution("step")))
    vanished.wait_for_messages(1)
    vanished.vanish()
    wait_until(lambda: scraped(web)["nexus_connections"] == before["nexus_connections"])
    after = scraped(web)
    expected = {
        "nexus_resyncs_total reason=unknown": 1,
        "nexus_closes_total by=client code=1000": 1,
        "nexus_closes_total by=server code=4400": 1,
        "nexus_closes_total by=server code=1000": 1,
        "nexus_closes_total by=server code=4404": 1,
        "nexus_closes_total by=client code=1006": 1,
    }
    assert grown(before, after, *expected) == expected
    assert after["nexus_watched_executions"] == before["nexus_watched_executions"]


def test_failures_and_the_backlog_of_a_writer_show(valkey: ValkeyServer) -> None:
    User.objects.create_superuser("root")
    execution_id = an_execution("step")
    before = own()
    valkey.kill()
    change(execution_id, 3)
    during = own()
    assert during["nexus_publish_backlog_executions"] == 1
    told = grown(before, during, "nexus_events_committed_total", "nexus_events_published_total")
    assert told == {"nexus_events_committed_total": 3, "nexus_events_published_total": 0}
    assert grown(before, during, "nexus_publish_failures_total").popitem()[1] >= 1
    valkey.start()
    assert publisher().wait_until_filled(10)
    assert own()["nexus_publish_backlog_executions"] == 0


def test_the_process_itself_is_among_the_metrics(web: WebServer) -> None:
    values = scraped(web)
    for name in ("resident_memory_bytes", "cpu_seconds_total", "open_fds", "max_fds"):
        assert values[f"process_{name}"] > 0


def test_no_label_can_take_any_number_of_values(web: WebServer) -> None:
    labels = {
        label.partition("=")[0]
        for name in scraped(web)
        if name.startswith("nexus_")
        for label in name.split(" ")[1:]
    }
    assert labels <= {"le", "reason", "code", "by"}


# Who may see them


def a_caller(who: str) -> User | None:
    if who == "anonymous":
        return None
    if who == "superuser":
        return User.objects.create_superuser(who, password=PASSWORD)
    user = a_user(who, may_view=True, may=("cancel", "terminate"), is_staff=who == "staff")
    if who in ("permitted", "inactive"):
        user.user_permissions.add(Permission.objects.get(codename="view_metrics"))
    return user


@pytest.mark.parametrize(
    ("who", "status"),
    [("anonymous", 401), ("viewer", 403), ("staff", 403), ("permitted", 200), ("superuser", 200)],
)
def test_metrics_are_for_those_with_the_permission(who: str, status: int) -> None:
    user = a_caller(who)
    by_session = client_of(user).get(METRICS)
    answers = [by_session]
    if user is not None:
        answers.append(client_of(None).get(METRICS, headers=with_token(a_token(user))))
    for response in answers:
        assert response.status_code == status
        assert (b"nexus_" in response.content) == (status == 200)
        assert response["Cache-Control"] == "no-store"
        if status == 200:
            assert response["Content-Type"].startswith("text/plain; version=")
        else:
            assert response.json()["detail"]


def test_revoked_users_wrong_tokens_and_passwords_see_no_metrics() -> None:
    user = a_caller("inactive")
    assert user is not None
    token = a_token(user)
    user.is_active = False
    user.save()
    client = client_of(None)
    for headers in (with_token(token), with_token("nexus_nonsense"), basic("inactive", PASSWORD)):
        assert client.get(METRICS, headers=headers).status_code == 401


@pytest.mark.parametrize("who", ["anonymous", "viewer"])
def test_metrics_are_open_where_reading_is(who: str, settings: Settings) -> None:
    settings.NEXUS_OPEN_READING = True
    assert client_of(a_caller(who)).get(METRICS).status_code == 200


def test_metrics_are_only_read() -> None:
    client = client_of(a_caller("superuser"))
    for method in ("post", "put", "delete"):
        assert getattr(client, method)(METRICS).status_code == 405
