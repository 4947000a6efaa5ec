"""How often passwords may be tried: a bound against guessing them, and on the work of hashing.

Counted in Django's default cache. Where that is the local-memory one, which it is unless
configured, each process counts for itself.
"""

import time
from hashlib import sha256
from typing import Final

from django.core.cache import cache
from django.http import HttpRequest
from rest_framework.exceptions import Throttled
from rest_framework.request import Request

WINDOW_SECONDS: Final = 60
PER_USERNAME: Final = 10
"""Attempts a window for one name, from wherever they come, right or wrong."""
PER_ADDRESS: Final = 30
"""Attempts a window from one address, whatever the name."""


def count_attempt(request: HttpRequest | Request, username: str) -> None:
    """Raise Throttled, with the seconds to wait, for an attempt beyond what is allowed."""
    window, elapsed = divmod(time.time(), WINDOW_SECONDS)
    # The peer's own: whoever guesses writes X-Forwarded-For as they like.
    address = request.META.get("REMOTE_ADDR", "")
    for kind, whose, allowed in (
        ("address", address, PER_ADDRESS),
        ("username", username, PER_USERNAME),
    ):
        digest = sha256(whose.encode("utf-8", "surrogatepass")).hexdigest()
        key = f"password_attempts:{window:.0f}:{kind}:{digest}"
        cache.add(key, 0, timeout=2 * WINDOW_SECONDS)
        if cache.incr(key) > allowed:
            raise Throttled(WINDOW_SECONDS - elapsed)
