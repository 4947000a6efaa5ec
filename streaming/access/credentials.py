"""What a caller can prove itself by, and whose each credential is: asked again and again.

Connections are let in, and stay, by the same answer (`users_of`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.models import AbstractUser
from django.contrib.sessions.backends.db import SessionStore as DatabaseSessionStore
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from knox.crypto import hash_token
from knox.models import get_token_model
from rest_framework.request import Request

from executions.access import ways_to_view_all
from executions.tokens import unexpired

KEYS_PER_QUERY: Final = 900
"""How many are asked for at once: SQLite takes about a thousand parameters."""


class CredentialKind(StrEnum):
    """By what a caller proves who it is."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a kind, no secret


@dataclass(frozen=True)
class Credential:
    """One credential; `key` is a session's key or a token's digest.

    The key of a session is as good as its cookie: it goes into no log.
    """

    kind: CredentialKind
    key: str = field(repr=False)


def session_credential(session_key: str) -> Credential:
    return Credential(CredentialKind.SESSION, session_key)


def token_credential(text: str) -> Credential:
    """The credential that the text would be if it is a token."""
    return Credential(CredentialKind.TOKEN, hash_token(text))


def credential_of_request(request: Request) -> Credential:
    """By what the user of this request has been let in."""
    if isinstance(request.auth, get_token_model()):
        return Credential(CredentialKind.TOKEN, request.auth.digest)
    return session_credential(str(request.session.session_key))


@dataclass(frozen=True)
class _Claim:
    """Whose a credential says it is, and the hash of that user's password it was given under."""

    user_id: Any
    session_hash: str | None = None


def users_of(credentials: Collection[Credential]) -> dict[Credential, AbstractUser]:
    """The active user of each credential that holds; those that do not are left out.

    Sessions hold until they end, expire, or their user's password changes; tokens until they
    are revoked or expire. Costs at most one query for sessions, one for tokens and one for
    users, for each KEYS_PER_QUERY of them. Synchronous code only.
    """
    claims = {
        **_claims_of_sessions(_keys(credentials, CredentialKind.SESSION)),
        **_claims_of_tokens(_keys(credentials, CredentialKind.TOKEN)),
    }
    users: Mapping[Any, AbstractUser] = get_user_model()._default_manager.in_bulk(
        {claim.user_id for claim in claims.values()}
    )
    return {
        credential: user
        for credential, claim in claims.items()
        if (user := users.get(claim.user_id)) is not None
        and user.is_active
        and (claim.session_hash is None or _is_hash_of(user, claim.session_hash))
    }


def not_surely_viewing_all(credentials: Collection[Credential]) -> list[Credential]:
    """Those of which `users_of` and `may_view` are to be asked.

    The others are tokens that hold, of active users who may view all executions, as a query
    tells for each way to the permission and each KEYS_PER_QUERY tokens. Synchronous code only.
    """
    tokens = get_token_model().objects.filter(unexpired(), user__is_active=True)
    unsure = set(_keys(credentials, CredentialKind.TOKEN))
    for way in ways_to_view_all():
        of_users = tokens.filter(**{f"user__{field}": value for field, value in way.items()})
        for part in _in_parts(list(unsure)):
            unsure -= set(of_users.filter(digest__in=part).values_list("digest", flat=True))
    return [
        credential
        for credential in credentials
        if credential.kind is not CredentialKind.TOKEN or credential.key in unsure
    ]


def _keys(credentials: Iterable[Credential], kind: CredentialKind) -> list[str]:
    return [credential.key for credential in credentials if credential.kind is kind]


def _in_parts(keys: list[str]) -> Iterator[list[str]]:
    for begin in range(0, len(keys), KEYS_PER_QUERY):
        yield keys[begin : begin + KEYS_PER_QUERY]


def _claims_of_sessions(keys: list[str]) -> dict[Credential, _Claim]:
    to_user_id = get_user_model()._meta.pk.to_python
    return {
        session_credential(key): _Claim(to_user_id(session[SESSION_KEY]), session[HASH_SESSION_KEY])
        for key, session in _sessions(keys)
        if SESSION_KEY in session
        and session.get(BACKEND_SESSION_KEY) in settings.AUTHENTICATION_BACKENDS
        and session.get(HASH_SESSION_KEY)
    }


def _sessions(keys: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The content of the sessions that there are, each with its key."""
    # No session has such a key, and PostgreSQL cannot be asked for it.
    keys = [key for key in keys if "\0" not in key]
    store_class = import_module(settings.SESSION_ENGINE).SessionStore
    if issubclass(store_class, DatabaseSessionStore):
        store = store_class()
        rows = store_class.get_model_class()._default_manager
        for part in _in_parts(keys):
            alive = rows.filter(session_key__in=part, expire_date__gt=timezone.now())
            for key, content in alive.values_list("session_key", "session_data"):
                yield key, store.decode(content)
    else:
        for key in keys:
            yield key, store_class(key).load()


def _claims_of_tokens(digests: list[str]) -> dict[Credential, _Claim]:
    alive = unexpired()
    return {
        Credential(CredentialKind.TOKEN, digest): _Claim(user_id)
        for part in _in_parts(digests)
        for digest, user_id in get_token_model()
        .objects.filter(alive, digest__in=part)
        .values_list("digest", "user_id")
    }


def _is_hash_of(user: AbstractUser, session_hash: str) -> bool:
    """Whether the session was given under the user's present password (as Django tells it)."""
    present = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return any(constant_time_compare(session_hash, each) for each in present)
