"""REST against its own description: any request, fit or not, is answered as the document says.

The whole application answers, in this process. What is asked is drawn from the OpenAPI
document, operation by operation, so that an operation that is added is asked too.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.wsgi import get_wsgi_application
from hypothesis import given
from hypothesis import strategies as st
from knox.models import get_token_model
from schemathesis.checks import CheckContext, not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.specs.openapi.checks import ignored_auth

from executions.api.openapi import DocumentGenerator
from tests.fuzzing.effort import examples
from tests.rest import PASSWORD, a_user, basic
from tests.samples import an_execution
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

LONG_NAME: Final = "x" * 64
NAMES: Final = {
    "execution_id": ["open", "ended", LONG_NAME, "nobody"],
    "activity_id": ["step", "a/b", "\N{SNOWMAN} ~", "none/"],
}
"""What parameters of a path may name; most of it is there."""

TEMPORAL_IS_AWAY: Final = 503


def described() -> Any:
    """The document and the application."""
    made = DocumentGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(made)))
    schema.app = get_wsgi_application()
    return schema


OPERATIONS: Final = [result.ok() for result in described().get_all_operations()]


@pytest.fixture(autouse=True)
def executions() -> Iterator[None]:
    with nobody_listening():
        an_execution("step", "a/b", "\N{SNOWMAN} ~", execution_id="open")
        an_execution("step", execution_id="ended", status="completed")
        an_execution(execution_id=LONG_NAME)
        yield


@pytest.fixture
def users() -> dict[str, User]:
    return {
        "operator": a_user("operator", may_view=True, may=["cancel", "terminate"]),
        "stranger": a_user("stranger"),
    }


def credentials(operation: Any, user: User) -> dict[str, str]:
    """The header that lets this user in, of a kind that the operation says it takes."""
    accepted = {name for each in operation.definition.raw.get("security", []) for name in each}
    if "tokenAuth" in accepted:
        # A new one each time: what was asked before may have been to revoke it.
        _, text = get_token_model().objects.create(user)
        return {"Authorization": f"Token {text}"}
    return basic(user.username, PASSWORD) if "basicAuth" in accepted else {}


forgeries = st.builds(
    "{}{}".format,
    st.sampled_from(["Token ", "Token nexus_", "Basic ", "Bearer ", "token", ""]),
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60),
).map(str.strip)
callers: st.SearchStrategy[tuple[str | None, str | None]] = st.one_of(
    st.tuples(st.sampled_from(["operator", "operator", "stranger", None]), st.none()),
    st.tuples(st.none(), forgeries),
)


def the_server_did_not_fail(ctx: CheckContext, response: Response, case: Any) -> None:
    assert response.status_code < 500 or response.status_code == TEMPORAL_IS_AWAY, response.text


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.label)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda each: each.value)
def test_any_request_is_answered_as_described(
    operation: Any, mode: GenerationMode, users: dict[str, User]
) -> None:
    @examples(25)
    @given(
        # Without feedback from the project's own code, the same examples come every time.
        case=operation.as_strategy(generation_mode=mode, feedback=FeedbackSources()),
        data=st.data(),
    )
    def ask(case: Any, data: st.DataObject) -> None:
        if mode.is_positive:
            for name in case.path_parameters or {}:
                if name in NAMES and data.draw(st.booleans(), label="name one that is known"):
                    case.path_parameters[name] = data.draw(st.sampled_from(NAMES[name]))
            # Any text is described, but only those are accepted that a page has given.
            case.query.pop("cursor", None)
        name, forgery = data.draw(callers, label="caller")
        headers = {} if forgery is None else {"Authorization": forgery}
        if name is not None:
            headers = credentials(operation, users[name])
        case.call_and_validate(
            headers=headers,
            excluded_checks=[not_a_server_error, ignored_auth],
            additional_checks=[the_server_did_not_fail],
        )

    ask()
