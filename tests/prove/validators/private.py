"""P7: no byte of an execution reaches anyone who may not view it."""

import json
from collections.abc import Iterator
from typing import Final

from tests.prove.records import Connection
from tests.prove.validators.histories import Histories
from tests.prove.validators.texts import TextFinder
from tests.prove.validators.verdicts import PromiseVerdict, Violation

REVOKED_SECONDS: Final = 7.0
"""How long after a revocation something may still come: 5 s are stated, and 2 s are allowed for
a machine whose two cores are shared by all processes of the run."""

ANSWERING_SECONDS: Final = 5.0
"""How long before its answer a REST request may have been asked, where that is not recorded."""

COMMITTING_SECONDS: Final = 2.0
"""How long after its record a revocation may be committed: what is asked till then may be given."""

_REFUSED: Final = (4401, 4404)


def judge(histories: Histories) -> PromiseVerdict:
    """Judge what callers were given of executions that they may not view."""
    verdict = PromiseVerdict("P7", "private", needed=("frames", "refusals", "revocations"))
    secrets = _Secrets(histories)
    for connection in histories.records.connections:
        verdict.violations += _leaks(histories, verdict, connection, secrets)
        verdict.violations += _late_closes(histories, verdict, connection)
    verdict.violations += _leaking_answers(histories, verdict, secrets)
    verdict.violations += _telling_refusals(histories, verdict)
    return verdict


class _Secrets:
    """Finds texts that belong to executions which a caller may not view."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories
        self._owners = {secret: owner for owner, secret in histories.records.secrets.items()}
        self._finder = TextFinder(self._owners)
        self._found: dict[str, frozenset[str]] = {}

    def leaked(self, text: str, caller: str, since: float, until: float) -> str:
        """An execution of which the text tells and that the caller may not view; else empty."""
        if text not in self._found:
            self._found[text] = frozenset(self._owners[each] for each in self._finder.find(text))
        rights = self._histories.rights
        return next(
            (
                owner
                for owner in sorted(self._found[text])
                if not rights.may_view_within(caller, owner, since, until)
            ),
            "",
        )


def _leaks(
    histories: Histories, verdict: PromiseVerdict, connection: Connection, secrets: _Secrets
) -> Iterator[Violation]:
    """The first frame, or the close reason, that the caller was not to be given."""
    spans = histories.rights.spans(connection.caller, connection.execution_id)
    for index, (at, text) in enumerate(connection.frames):
        verdict.count("frames")
        since = _judged_since(connection, at)
        wrong = ""
        if _says_nothing(histories, text):
            continue
        if not any(begins <= at and since < ends for begins, ends in spans):
            wrong = "the caller may not view the execution, and was sent a frame"
        elif leaked := secrets.leaked(text, connection.caller, since, at):
            wrong = f"the frame holds the secret of {leaked}, which the caller may not view"
        if wrong:
            yield histories.violation(wrong, connection, index)
            return
    ended = histories.ended_at(connection)
    since = _judged_since(connection, ended)
    if leaked := secrets.leaked(connection.close_reason, connection.caller, since, ended):
        yield histories.violation(f"the close reason holds the secret of {leaked}", connection)


def _judged_since(connection: Connection, at: float) -> float:
    """The earliest moment at which the server may have decided to send what was read `at`."""
    since = at - REVOKED_SECONDS
    for begins, ends in reversed(connection.not_reading):
        # What was sent in time, and then lay in the kernel's buffers, cannot be taken back.
        if since < ends and begins <= at:
            since = min(since, begins - REVOKED_SECONDS)
    return max(connection.asked_at - COMMITTING_SECONDS, since)


def _says_nothing(histories: Histories, text: str) -> bool:
    """Whether the frame is the heartbeat that even those get who wait for their refusal."""
    message = histories.message(text)
    return message is not None and message.type == "heartbeat" and message.event_id is None


def _late_closes(
    histories: Histories, verdict: PromiseVerdict, connection: Connection
) -> Iterator[Violation]:
    """Connections that stay open when their caller may no longer view what they show."""
    if connection.opened_at is None or connection.execution_id not in histories.logs:
        return
    ended = histories.ended_at(connection)
    for granted, revoked in histories.rights.spans(connection.caller, connection.execution_id):
        if not (granted <= connection.opened_at < revoked < ended):
            continue
        until = revoked + REVOKED_SECONDS
        if histories.rights.may_view_within(
            connection.caller, connection.execution_id, revoked, until
        ):
            continue
        if histories.seconds_not_reading(connection, revoked, ended) > 0:
            continue
        verdict.count("revocations")
        if ended > until:
            yield histories.violation(
                f"the caller's right ended at {histories.seconds(revoked)}, and the connection "
                f"is still open {REVOKED_SECONDS:.0f} s later",
                connection,
            )
        elif connection.close_code == 1011 and histories.was_disturbed(
            ended, ended, REVOKED_SECONDS
        ):
            continue
        elif connection.close_code not in (*_REFUSED, 1000, 1001, None):
            yield histories.violation(
                f"the caller's right ended at {histories.seconds(revoked)}; the connection was "
                f"closed with {connection.close_code}, not with 4401 or 4404",
                connection,
            )


def _leaking_answers(
    histories: Histories, verdict: PromiseVerdict, secrets: _Secrets
) -> Iterator[Violation]:
    for reading in histories.records.readings:
        verdict.count("readings")
        asked_at = reading.at - ANSWERING_SECONDS if reading.asked_at is None else reading.asked_at
        since = asked_at - COMMITTING_SECONDS
        allowed = histories.rights.may_view_within(
            reading.caller, reading.execution_id, since, reading.at
        )
        body = reading.text + json.dumps(reading.document, ensure_ascii=False)
        leaked = secrets.leaked(body, reading.caller, since, reading.at)
        what = f"REST's answer to {reading.caller} of {reading.execution_id} "
        what += f"at {histories.seconds(reading.at)}, status {reading.status},"
        if leaked:
            yield Violation(f"{what} holds the secret of {leaked}, which the caller may not view")
        elif not allowed and (reading.status == 200 or reading.event_id is not None):
            yield Violation(f"{what} tells of an execution that the caller may not view")


def _telling_refusals(histories: Histories, verdict: PromiseVerdict) -> Iterator[Violation]:
    """Answers that tell an execution which may not be viewed from one that does not exist."""
    answers: dict[tuple[str, float | None, str], dict[tuple[object, ...], str]] = {}
    for connection in histories.records.connections:
        if connection.opened_at is None or connection.close_code not in _REFUSED:
            continue
        if not all(_says_nothing(histories, text) for _, text in connection.frames):
            continue
        if not _is_refusable(
            histories, connection.caller, connection.execution_id, connection.asked_at
        ):
            continue
        verdict.count("refusals")
        changed = histories.rights.last_change(connection.caller, connection.asked_at)
        given = answers.setdefault((connection.caller, changed, "socket"), {})
        answer = (connection.close_code, connection.close_reason)
        given.setdefault(answer, connection.execution_id)
        everybody = answers.setdefault(("everybody", connection.close_code, "socket"), {})
        everybody.setdefault((connection.close_reason,), connection.execution_id)
    for reading in histories.records.readings:
        if _is_refusable(histories, reading.caller, reading.execution_id, reading.at):
            verdict.count("refused readings")
            changed = histories.rights.last_change(reading.caller, reading.at)
            given = answers.setdefault((reading.caller, changed, "REST"), {})
            given.setdefault((reading.status,), reading.execution_id)
    for (caller, _, where), given in answers.items():
        if len(given) > 1:
            told = "; ".join(f"{name}: {answer}" for answer, name in given.items())
            yield Violation(
                f"{where} answers {caller} differently of executions that are not there or not "
                f"to be viewed: {told}"
            )


def _is_refusable(histories: Histories, caller: str, execution_id: str, at: float) -> bool:
    """Whether the execution is missing, or was not to be viewed for some time."""
    return execution_id not in histories.logs or not histories.rights.may_view_within(
        caller, execution_id, at - REVOKED_SECONDS, at
    )
