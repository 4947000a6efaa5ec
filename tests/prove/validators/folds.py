"""Folding events into documents, with jsonpatch: the oracle that the product is measured by."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import jsonpatch

from tests.prove.records import JsonObject

if TYPE_CHECKING:
    from tests.prove.validators.histories import Log


class UnfoldableError(ValueError):
    """A message does not fold onto the document before it; says which, and why."""


def canonical(document: object) -> str:
    """The same text for the same JSON value: `1`, `1.0` and `true` differ."""
    return json.dumps(document, sort_keys=True)


def digest(document: object) -> bytes:
    """A short stand-in for a document: equal exactly if the documents are."""
    return hashlib.blake2b(canonical(document).encode(), digest_size=16).digest()


def difference(told: JsonObject, held: JsonObject) -> str:
    """What would have to be done to the one to get the other."""
    return f"{list(jsonpatch.make_patch(told, held))[:5]}"


class Fold:
    """A document that messages are folded into."""

    def __init__(self) -> None:
        self.document: JsonObject | None = None

    def take(self, text: str) -> None:
        """Fold one event's message; raises UnfoldableError, after which the fold is no use."""
        try:
            message = json.loads(text)
            name = f"{message['event_id']} ({message['type']})"
        except (ValueError, KeyError, TypeError) as error:
            raise UnfoldableError(f"no event's message: {text[:80]!r}: {error}") from error
        if message["type"] == "initial_snapshot":
            self.document = message.get("execution")
            return
        if self.document is None:
            raise UnfoldableError(f"{name} comes before any snapshot")
        if message["type"] == "activity_patch":
            self.document = self._patched(name, self.document, message.get("ops"))
        elif canonical(message.get("execution")) != canonical(self.document):
            raise UnfoldableError(
                f"{name} is not the fold of what came before it; it differs by "
                f"{difference(self.document, message.get('execution') or {})}"
            )

    def _patched(self, name: str, document: JsonObject, operations: Any) -> JsonObject:
        if not isinstance(operations, list) or not operations:
            raise UnfoldableError(f"{name} has no operation")
        for operation in operations:
            if not isinstance(operation, dict):
                raise UnfoldableError(f"{name} has an operation that is none: {operation!r}")
            end = f"/activities/{len(document.get('activities', ()))}"
            if operation.get("op") == "add" and operation.get("path") != end:
                raise UnfoldableError(f"{name} adds at {operation.get('path')}, not at {end}")
            try:
                document = jsonpatch.apply_patch(document, [operation], in_place=True)
            except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
                raise UnfoldableError(f"{name} does not apply: {operation}: {error}") from error
        return document


class LogFold:
    """What one execution's log folds to at the sequences that were asked for."""

    def __init__(self, log: "Log", wanted: Iterable[int]) -> None:
        self.log = log
        self.broken = ""
        """Why the log does not fold any further; empty where it does to its end."""
        self.digests: dict[int, bytes] = {}
        self.document: JsonObject | None = None
        """The document at the log's end, or where it broke."""
        sequences = set(wanted)
        fold = Fold()
        for row in log.rows:
            try:
                fold.take(row.message)
            except UnfoldableError as error:
                self.broken = str(error)
                break
            if row.event_id is not None and row.event_id.sequence in sequences:
                self.digests[row.event_id.sequence] = digest(fold.document)
        self.document = fold.document

    def document_at(self, sequence: int) -> JsonObject | None:
        """The document at this sequence, folded anew: to show a difference."""
        fold = Fold()
        for row in self.log.rows:
            if row.event_id is None or row.event_id.sequence > sequence:
                break
            try:
                fold.take(row.message)
            except UnfoldableError:
                return None
        return deepcopy(fold.document)


class LogFolds:
    """Each execution's log, folded once; `want` first, then ask."""

    def __init__(self, logs: "Mapping[str, Log]") -> None:
        self._logs = logs
        self._wanted: dict[str, set[int]] = {}
        self._folds: dict[str, LogFold] = {}

    def want(self, execution_id: str, sequence: int) -> None:
        """Have the digest at this sequence kept."""
        if sequence not in self._wanted.setdefault(execution_id, set()):
            self._wanted[execution_id].add(sequence)
            self._folds.pop(execution_id, None)

    def of(self, execution_id: str) -> LogFold | None:
        """The execution's fold; None where there is no log of it."""
        log = self._logs.get(execution_id)
        if log is not None and execution_id not in self._folds:
            self._folds[execution_id] = LogFold(log, self._wanted.get(execution_id, ()))
        return self._folds.get(execution_id)
