"""Which pages may open a WebSocket: browsers send an Origin, and cookies along with it.

A page of another site must not read streams with its visitor's session, nor through a
name that it has made to point here. Programs that are no browsers send no Origin.
"""

from collections.abc import Sequence

from django.http.request import split_domain_port, validate_host


def origin_is_allowed(
    origin: str | None,
    host: str | None,
    allowed_hosts: Sequence[str],
    allowed_origins: Sequence[str],
) -> bool:
    """Whether a connection with these Origin and Host headers may be opened.

    Allowed are: no Origin; an origin of `allowed_origins` (`scheme://host[:port]`); the
    server's own origin, under a host name that is among `allowed_hosts`.
    """
    if origin is None or origin in allowed_origins:
        return True
    scheme, separator, netloc = origin.lower().partition("://")
    if not separator or scheme not in ("http", "https") or netloc != (host or "").lower():
        return False
    domain, _ = split_domain_port(netloc)
    return bool(domain) and validate_host(domain, allowed_hosts)
