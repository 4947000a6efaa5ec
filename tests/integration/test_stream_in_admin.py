"""The admin's page of an execution says how far its stream has come."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from executions.models import Execution
from executions.recording import changing
from streaming.stream import stream_key
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    return client


def page(operator: Client, execution_id: str) -> str:
    answer = operator.get(f"/admin/executions/execution/{execution_id}/change/")
    assert answer.status_code == 200
    return answer.content.decode()


def head(execution_id: str) -> str:
    return str(Execution.objects.get(pk=execution_id).head)


def test_stream_that_has_everything_is_equal_to_the_head(
    operator: Client, valkey: ValkeyServer
) -> None:
    execution_id = an_execution("a")
    assert f"{head(execution_id)}: equal to the head" in page(operator, execution_id)


def test_stream_that_lacks_events_says_how_many(operator: Client, valkey: ValkeyServer) -> None:
    execution_id = an_execution("a")
    published = head(execution_id)
    with nobody_listening():
        for progress in (0.1, 0.2):
            with changing(execution_id) as change:
                change.activity("a").progress = progress
    assert f"{published}: 2 events behind the head" in page(operator, execution_id)


def test_missing_stream_is_told(operator: Client, valkey: ValkeyServer) -> None:
    execution_id = an_execution("a")
    valkey.client.delete(stream_key(execution_id))
    assert "no stream: it is filled when somebody views the execution" in page(
        operator, execution_id
    )


def test_valkey_that_is_away_leaves_the_page_standing(
    operator: Client, valkey: ValkeyServer
) -> None:
    execution_id = an_execution("a")
    valkey.kill()
    assert "unknown: Valkey cannot be reached" in page(operator, execution_id)
