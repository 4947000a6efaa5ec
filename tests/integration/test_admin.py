"""The admin: finding an execution, seeing all of it safely, and changing nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from pytest_django import DjangoAssertNumQueries

from executions import admin as executions_admin
from executions import inspection, read_only_admin
from executions.admin import ExecutionAdmin
from executions.attempts import AttemptNote, AttemptOutcome
from executions.ledger import (
    DetailsNote,
    PointNote,
    note_attempts,
    note_details,
    note_output,
    note_points,
)
from executions.models import Activity, Event, Execution
from executions.recorded_rows import RecordedModel
from executions.recording import NewActivity, changing, create_execution
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState
from tests.rest import a_user, an_operator_client, client_of
from tests.samples import an_execution
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

EXECUTIONS = "/admin/executions/execution/"
ACTIVITIES = "/admin/executions/activity/"
EVENTS = "/admin/executions/event/"
NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
EVIL = "<script>alert(1)</script>\"'&{{ 7 }}"


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


@pytest.fixture
def client() -> Client:
    return an_operator_client()


def page_of(row: RecordedModel | str) -> str:
    if isinstance(row, Activity | Event):
        return f"{ACTIVITIES if isinstance(row, Activity) else EVENTS}{row.pk}/change/"
    return f"{EXECUTIONS}{quote(row if isinstance(row, str) else row.pk)}/change/"


def html_of(client: Client, address: str, **parameters: str) -> str:
    response = client.get(address, parameters)
    assert response.status_code == 200, (address, response.status_code)
    return response.content.decode()


def listed(client: Client, **parameters: str) -> set[str]:
    response = client.get(EXECUTIONS, parameters)
    assert response.status_code == 200, response.headers
    return {row.pk for row in response.context["cl"].result_list}


def test_every_page_needs_a_login_and_the_permission() -> None:
    execution_id = an_execution("a")
    addresses = [EXECUTIONS, ACTIVITIES, EVENTS]
    addresses += [
        page_of(row) for row in (execution_id, Activity.objects.get(), Event.objects.get())
    ]
    askers: dict[int, list[User | None]] = {
        302: [None, a_user("not-staff", may_view=True)],
        403: [a_user("staff", is_staff=True)],
        200: [a_user("operator", may_view=True, is_staff=True)],
    }
    for status, users in askers.items():
        for user in users:
            asking = client_of(user)
            answers = {address: asking.get(address).status_code for address in addresses}
            assert answers == dict.fromkeys(addresses, status), user


def test_nothing_can_be_added_changed_or_deleted(client: Client) -> None:
    root = a_user("root", is_staff=True)
    root.is_superuser = True
    root.save()
    an_execution("a")
    before = list(Event.objects.values_list("message", flat=True))
    for asking in (client, client_of(root)):
        for listing, row in (
            (EXECUTIONS, Execution.objects.get()),
            (ACTIVITIES, Activity.objects.get()),
            (EVENTS, Event.objects.get()),
        ):
            one = page_of(row)
            assert asking.get(f"{listing}add/").status_code == 403
            assert asking.post(f"{listing}add/", {"workflow_id": "x"}).status_code == 403
            assert asking.post(one, {"status": "completed"}).status_code == 403
            delete = one.replace("/change/", "/delete/")
            assert asking.get(delete).status_code == 403
            assert asking.post(delete, {"post": "yes"}).status_code == 403
            chosen = {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"}
            asking.post(listing, chosen)
            html = html_of(asking, one)
            assert "_save" not in html
            assert "deletelink" not in html
    assert list(Event.objects.values_list("message", flat=True)) == before
    assert Activity.objects.get().status == ActivityStatus.PENDING


def test_executions_are_found_by_status_type_date_and_text(client: Client) -> None:
    an_execution(execution_id="one", workflow_id="order-1", workflow_type="Order")
    an_execution(execution_id="two", workflow_id="order-2", run_id="RUN-77")
    an_execution(execution_id="three", status=ExecutionStatus.FAILED, workflow_type="Order")
    assert listed(client) == {"one", "two", "three"}
    assert listed(client, status__exact="failed") == {"three"}
    assert listed(client, workflow_type="Order") == {"one", "three"}
    assert listed(client, workflow_type="Order", status__exact="running") == {"one"}
    assert listed(client, created_at__gte="2100-01-01 00:00:00+00:00") == set()
    assert listed(client, q="ORDER-2") == {"two"}
    assert listed(client, q="run-77") == {"two"}
    assert listed(client, q="hre") == {"three"}
    html = html_of(client, EXECUTIONS)
    assert "workflow_type=Order" in html
    assert f'href="{page_of("one")}"' in html


def test_the_filter_offers_types_of_recent_executions_and_the_chosen_one(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executions_admin, "RECENT_EXECUTIONS", 2)
    for kind in ("Forgotten", "Recent", "Newest"):
        an_execution(workflow_type=kind)
    html = html_of(client, EXECUTIONS)
    assert "workflow_type=Recent" in html
    assert "workflow_type=Newest" in html
    assert "workflow_type=Forgotten" not in html
    assert len(listed(client, workflow_type="Forgotten")) == 1
    assert "workflow_type=Forgotten" in html_of(client, EXECUTIONS, workflow_type="Forgotten")


def test_the_page_shows_fields_head_activities_and_events(client: Client) -> None:
    execution_id = an_execution("fetch", "send", workflow_id="order-1")
    with changing(execution_id) as change:
        change.activity("fetch").status = ActivityStatus.RUNNING
        change.activity("fetch").progress = 0.25
    with changing(execution_id) as change:
        change.activity("send").error_details = {"type": "Oops", "message": "went wrong"}
        change.activity("send").status = ActivityStatus.FAILED
    html = html_of(client, page_of(execution_id))
    head = Execution.objects.get().head
    shown = ("order-1", str(head), "25%", "Oops: went wrong", "name of fetch", "activity_patch")
    for text in (*shown, "/activities/0/status = running", "initial_snapshot"):
        assert text in html, text
    for event in Event.objects.all():
        assert str(event.event_id) in html
        assert escape(inspection.pretty(event.message)) in html
    assert html.index(">fetch</a>") < html.index(">send</a>")
    for row in (*Activity.objects.all(), *Event.objects.all()):
        assert page_of(row) in html


def test_the_page_links_to_the_executions_around_it(client: Client) -> None:
    an_execution(execution_id="middle", parent_execution_id="above", next_execution_id="after")
    html = html_of(client, page_of("middle"))
    for field, linked in (("parent", "above"), ("next", "after")):
        part = html[html.index(f"field-{field}") :]
        assert f'<a href="{page_of(linked)}">{linked}</a>' in part[: part.index("</div>")]
    before = html[html.index("field-previous") :]
    assert "<a " not in before[: before.index("</div>")]


def test_the_page_shows_the_newest_points_of_the_story_first(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "POINTS_SHOWN", 2)
    execution_id = an_execution("a")
    assert "Nothing has happened" in html_of(client, page_of(execution_id))
    notes = [
        PointNote(
            engine_event_id=number,
            at=NOON,
            kind="signal",
            name=f"signal-{number}",
            details={"input": number * 1111},
        )
        for number in (1, 2, 3)
    ]
    with changing(execution_id):
        note_points(execution_id, notes[:2])
    html = html_of(client, page_of(execution_id))
    assert html.index("signal-2") < html.index("signal-1")
    assert "These are the last" not in html
    assert escape('"input": 2222') in html
    assert "2026-03-04 12:00:00.000" in html
    assert f'href="/api/v1/executions/{execution_id}/story"' in html
    with changing(execution_id):
        note_points(execution_id, notes)
    html = html_of(client, page_of(execution_id))
    assert html.index("signal-3") < html.index("signal-2")
    assert "signal-1" not in html
    assert "These are the last 2." in html


def test_the_table_of_activities_shows_what_was_asked_and_what_is_next(client: Client) -> None:
    execution_id = an_execution("a")
    with changing(execution_id) as change:
        change.activity("a").status = ActivityStatus.RETRYING
        change.activity("a").pending_state = PendingState.CANCEL_REQUESTED
        change.activity("a").next_attempt_at = NOON
    html = html_of(client, page_of(execution_id))
    table = html[html.index('id="activities"') : html.index('id="story"')]
    assert "cancel_requested" in table
    assert "next 12:00:00.000" in table


def test_an_activitys_page_shows_its_attempts_and_what_went_in_and_out(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution_id = an_execution("a/b", "other")
    with changing(execution_id) as change:
        change.activity("a/b").status = ActivityStatus.RETRYING
        change.activity("a/b").attempt = 3
        change.activity("a/b").pending_state = PendingState.PAUSED
        change.activity("a/b").scheduled_at = NOON
        change.activity("a/b").next_attempt_at = NOON + timedelta(hours=1)
        change.activity("a/b").child_execution_id = "child"
        details = DetailsNote(
            activity_id="a/b",
            engine_activity_id="7",
            task_queue="orders-queue",
            options={"heartbeat_timeout": "30s"},
            input=[{"value": "what went in"}],
        )
        note_details(execution_id, [details])
        note_output(execution_id, "a/b", [{"value": "what came out"}])
        note_attempts(execution_id, [failed_attempt(number) for number in (1, 2, 3)])
    activity = Activity.objects.get(activity_id="a/b")
    html = html_of(client, page_of(activity))
    for text in (
        "paused",
        "2026-03-04 13:00:00.000",
        "orders-queue",
        "heartbeat_timeout",
        "what went in",
        "what came out",
        "worker-1",
        "Oops: failure 2",
        "trace 3",
        "after 2.000 s",
        "heart of 1",
        f'<a href="{page_of("child")}">child</a>',
        f'href="/api/v1/executions/{execution_id}/activities/a/b"',
    ):
        assert text in html, text
    assert html.index("failure 3") < html.index("failure 2") < html.index("failure 1")
    assert "left out" not in html
    assert "Nothing is known of its attempts." in html_of(
        client, page_of(Activity.objects.get(activity_id="other"))
    )
    monkeypatch.setattr(inspection, "ATTEMPTS_SHOWN", 2)
    html = html_of(client, page_of(activity))
    assert "failure 1" not in html
    assert "These are the newest 2; 1 older ones are left out." in html


def test_large_texts_of_an_activity_are_cut(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "PAYLOAD_CHARACTERS", 500)
    execution_id = an_execution("a")
    trace = {"type": "Oops", "message": "", "stack_trace": "t" * 600 + "the-end"}
    with changing(execution_id):
        note_attempts(
            execution_id,
            [
                AttemptNote(
                    activity_id="a",
                    number=1,
                    failure=trace,
                    heartbeat_at=NOON,
                    heartbeat_details=[{"value": "h" * 600 + "the-end"}],
                )
            ],
        )
        note_points(
            execution_id,
            [PointNote(engine_event_id=1, at=NOON, kind="k", details={"d": "d" * 600 + "the-end"})],
        )
    for row in (Activity.objects.get(), execution_id):
        html = html_of(client, page_of(row))
        assert "…" in html
        assert "the-end" not in html


def failed_attempt(number: int) -> AttemptNote:
    return AttemptNote(
        activity_id="a/b",
        number=number,
        outcome=AttemptOutcome.FAILED,
        worker_identity=f"worker-{number}",
        ended_at=NOON,
        next_attempt_at=NOON + timedelta(seconds=2),
        failure={"type": "Oops", "message": f"failure {number}", "stack_trace": f"trace {number}"},
        heartbeat_at=NOON,
        heartbeat_details=[{"value": f"heart of {number}"}],
    )


def test_an_execution_without_activities_says_so(client: Client) -> None:
    assert "This execution has no activities." in html_of(client, page_of(an_execution()))


@pytest.mark.parametrize("execution_id", ["a_5Fb", "a_b-c.d", "x" * 64])
def test_any_execution_id_has_its_page(client: Client, execution_id: str) -> None:
    an_execution("a", execution_id=execution_id)
    of_this = {"execution__exact": execution_id}
    for html in (
        html_of(client, EXECUTIONS),
        html_of(client, ACTIVITIES, **of_this),
        html_of(client, EVENTS, **of_this),
        html_of(client, page_of(Activity.objects.get())),
        html_of(client, page_of(Event.objects.get())),
    ):
        assert f'href="{page_of(execution_id)}"' in html
    assert execution_id in html_of(client, page_of(execution_id))


def test_names_with_html_in_them_stay_text_everywhere(client: Client) -> None:
    failure = {"type": EVIL, "message": EVIL}
    create_execution(
        execution_id="e",
        workflow_id=EVIL,
        workflow_type=EVIL,
        run_id=EVIL,
        error_details=failure,
        workflow_definition=EVIL,
        activities=[
            NewActivity(
                activity_id=EVIL,
                activity_name=EVIL,
                activity_type=EVIL,
                depends_on=[EVIL],
                error_details=failure,
            )
        ],
    )
    with changing("e") as change:
        change.execution.run_id = EVIL + EVIL
        payload = [{"value": EVIL, "problem": EVIL}]
        note_details(
            "e",
            [
                DetailsNote(
                    activity_id=EVIL,
                    engine_activity_id=EVIL,
                    task_queue=EVIL,
                    options={EVIL: EVIL},
                    input=payload,
                )
            ],
        )
        note_output("e", EVIL, payload)
        note_attempts(
            "e",
            [
                AttemptNote(
                    activity_id=EVIL,
                    number=1,
                    worker_identity=EVIL,
                    failure={**failure, "stack_trace": EVIL},
                    heartbeat_at=NOON,
                    heartbeat_details=payload,
                )
            ],
        )
        note_points(
            "e", [PointNote(engine_event_id=1, at=NOON, kind=EVIL, name=EVIL, details={EVIL: EVIL})]
        )
    of_e = {"execution__exact": "e"}
    pages = [
        html_of(client, EXECUTIONS),
        html_of(client, EXECUTIONS, workflow_type=EVIL, q=EVIL),
        html_of(client, page_of("e")),
        html_of(client, ACTIVITIES),
        html_of(client, ACTIVITIES, **of_e),
        html_of(client, ACTIVITIES, execution__exact=EVIL),
        html_of(client, page_of(Activity.objects.get())),
        html_of(client, EVENTS, **of_e),
        *(html_of(client, page_of(event)) for event in Event.objects.all()),
    ]
    for html in pages:
        assert "<script>alert" not in html
    with_names = [pages[0], pages[2], pages[3], pages[4], pages[6], *pages[8:]]
    for html in with_names:
        assert "&lt;script&gt;alert(1)" in html
    assert "{{ 7 }}" in pages[2]


def test_of_many_activities_and_events_the_page_shows_a_part_and_links_to_all(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "ACTIVITIES_SHOWN", 3)
    monkeypatch.setattr(inspection, "EVENTS_SHOWN", 2)
    an_execution("other", execution_id="another")
    execution_id = an_execution("a", "b", "c", "d", execution_id="many")
    for name in ("a", "b", "c"):
        with changing(execution_id) as change:
            change.activity(name).status = ActivityStatus.RUNNING
    html = html_of(client, page_of(execution_id))
    assert "These are the first 3." in html
    assert ">c</a>" in html
    assert ">d</a>" not in html
    assert "These are the last 2." in html
    events = list(Event.objects.filter(execution_id="many").order_by("sequence"))
    assert [str(event.event_id) in html for event in events] == [False, False, True, True]
    of_this = urlencode({"execution__exact": "many"})
    for listing, ids in (
        (ACTIVITIES, list(Activity.objects.filter(execution_id="many").order_by("position"))),
        (EVENTS, events[::-1]),
    ):
        assert f"{listing}?{of_this}" in html
        answer = client.get(f"{listing}?{of_this}")
        assert list(answer.context["cl"].result_list) == ids
        assert "many" in answer.context["title"]


def test_exactly_as_many_as_are_shown_are_all(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "ACTIVITIES_SHOWN", 2)
    monkeypatch.setattr(inspection, "EVENTS_SHOWN", 1)
    html = html_of(client, page_of(an_execution("a", "b")))
    assert "These are the" not in html


def test_a_large_message_is_cut_on_the_executions_page_and_whole_on_its_own(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "PAYLOAD_CHARACTERS", 500)
    execution_id = an_execution("a", workflow_id="w" * 600 + "the-end")
    with changing(execution_id) as change:
        change.execution.run_id = "r" * 600 + "the-end"
    html = html_of(client, page_of(execution_id))
    assert html.count("This is its beginning") == 2
    assert html.count("the-end") == 2, "in the fields, not in the payloads"
    assert "a large patch" in html
    for event in Event.objects.all():
        assert "the-end" in html_of(client, page_of(event))


def test_tables_of_events_do_not_load_whole_messages() -> None:
    an_execution("a")
    (row,) = inspection.with_beginnings(Event.objects.all())
    assert row.get_deferred_fields() == {"message"}
    assert row.message.startswith(row.beginning)


def test_the_event_list_is_paged(client: Client) -> None:
    execution_id = an_execution("a")
    for number in range(60):
        with changing(execution_id) as change:
            change.activity("a").progress = number / 60
            change.activity("a").status = ActivityStatus.RUNNING
    first = client.get(EVENTS, {"execution__exact": execution_id}).context["cl"]
    second = client.get(EVENTS, {"execution__exact": execution_id, "p": "2"}).context["cl"]
    sequences = [event.sequence for cl in (first, second) for event in cl.result_list]
    assert sequences == list(range(60, -1, -1))


def test_lists_count_no_further_than_is_useful(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_only_admin, "COUNTED_ROWS", 3)
    for _ in range(5):
        an_execution()
    assert "3 or more" in html_of(client, EXECUTIONS)
    monkeypatch.setattr(read_only_admin, "COUNTED_ROWS", 6)
    assert "or more" not in html_of(client, EXECUTIONS)


def test_queries_do_not_grow_with_what_is_shown(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(30):
        an_execution(workflow_type=f"t{number}")
    execution_id = an_execution(*(f"a{number}" for number in range(50)))
    for number in range(30):
        with changing(execution_id) as change:
            change.activity(f"a{number}").status = ActivityStatus.RUNNING
    of_this = {"execution__exact": execution_id}
    with django_assert_max_num_queries(7):  # session, user, permissions twice, types, count, page
        html_of(client, EXECUTIONS)
    with django_assert_max_num_queries(9):  # the execution twice, activities, points, events
        html_of(client, page_of(execution_id))
    for listing in (ACTIVITIES, EVENTS):
        with django_assert_max_num_queries(6):
            html_of(client, listing, **of_this)
    event, activity = Event.objects.first(), Activity.objects.get(activity_id="a1")
    assert event is not None
    with django_assert_max_num_queries(7):
        html_of(client, page_of(event))
    with changing(execution_id):
        note_attempts(
            execution_id, [AttemptNote(activity_id="a1", number=number) for number in range(1, 70)]
        )
    with django_assert_max_num_queries(10):  # attempts, how many besides, details
        html_of(client, page_of(activity))


@pytest.mark.parametrize("listing", [EXECUTIONS, ACTIVITIES, EVENTS])
@pytest.mark.parametrize(
    "query", ["workflow_type=%00", "status__exact=%00", "execution__exact=%00", "q=%00"]
)
def test_nul_in_a_parameter_is_400(client: Client, listing: str, query: str) -> None:
    assert client.get(f"{listing}?{query}").status_code == 400


@pytest.mark.parametrize("text", ["nobody", "%00", "_00", "%F0%9F%A6%89", "x" * 500])
def test_an_unknown_execution_leads_back_with_a_message(client: Client, text: str) -> None:
    response = client.get(f"{EXECUTIONS}{text}/change/", follow=True)
    assert response.redirect_chain
    assert "exist" in response.content.decode()


def test_a_subclass_shows_one_more_field_by_naming_it() -> None:
    class WithMore(ExecutionAdmin):
        fields: ClassVar[tuple[str, ...]] = (*ExecutionAdmin.fields, "more")

        def more(self, execution: Execution) -> str:
            return f"more of {execution.pk} <b>"

    execution_id = an_execution("a")
    request = RequestFactory().get("/")
    request.user = a_user("operator", may_view=True, is_staff=True)
    shown: Any = WithMore(Execution, admin.site).change_view(request, execution_id)
    html = shown.render().content.decode()
    assert f"more of {execution_id} &lt;b&gt;" in html
    assert html.index("field-head") < html.index("field-more") < html.index('id="activities"')
