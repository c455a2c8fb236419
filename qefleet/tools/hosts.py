"""Whom agents may send requests to outside of the sandbox: the hosts that the user has named."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from qefleet.errors import InvalidInput

_PORTS = {"http": 80, "https": 443}


def allowed_origin(url: str, allowed: Collection[str], *, field: str) -> str:
    """Scheme, host and port of a URL that requests may be sent to.

    Args:
        url: As the user gives it: an origin, without path, query and user.
        allowed: `host` or `host:port`, as in `QE_ALLOWED_HOSTS`.
        field: The input's field that has the URL.

    Raises:
        InvalidInput: It is no such URL, or its host isn't allowed.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidInput(field, "this is no URL") from None
    if parts.scheme not in _PORTS or not host:
        raise InvalidInput(field, "give http:// or https:// and a host")
    if parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise InvalidInput(field, "give scheme, host and port alone, without user, path and query")
    host = f"[{host}]" if ":" in host else host
    known = {name.strip().lower() for name in allowed}
    if not known & {host, f"{host}:{port or _PORTS[parts.scheme]}"}:
        raise InvalidInput(
            field, "its host may not be sent requests to: name it in QE_ALLOWED_HOSTS where the worker runs"
        )
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")
