"""A machine without a network: its own loopback answers, and nothing else does."""

import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

LOCAL_NAMES = (None, "", "localhost")


def refuse_other_hosts(
    on_refusal: Callable[[str], object], replace: Callable[[object, str, object], None] = setattr
) -> None:
    """Let Python's sockets reach loopback only.

    Another host is refused with the errors of a machine that has no network, so that code under
    test takes the way it would take there.

    Args:
        on_refusal: is told the host, since a refusal may be swallowed by what meets it.
        replace: sets an attribute; `monkeypatch.setattr` undoes it later.
    """
    for method in ("connect", "connect_ex"):
        allowed = getattr(socket.socket, method)
        replace(socket.socket, method, _guard_connect(allowed, on_refusal))
    replace(socket, "getaddrinfo", _guard_lookup(socket.getaddrinfo, on_refusal))


def is_loopback(host: object) -> bool:
    """Tell whether a host is this machine by a name or number that needs no lookup."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        return False


def _guard_connect(
    allowed: Callable[..., Any], on_refusal: Callable[[str], object]
) -> Callable[..., Any]:
    def connect(self: socket.socket, address: Any) -> Any:  # noqa: ANN401 - any socket family's
        is_internet = self.family in (socket.AF_INET, socket.AF_INET6)
        if is_internet and not is_loopback(address[0]):
            on_refusal(address[0])
            raise OSError(errno.ENETUNREACH, f"Network is unreachable: {address[0]}")
        return allowed(self, address)

    return connect


def _guard_lookup(
    allowed: Callable[..., Any], on_refusal: Callable[[str], object]
) -> Callable[..., Any]:
    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as in socket
        if not is_loopback(host):
            on_refusal(str(host))
            raise socket.gaierror(socket.EAI_AGAIN, f"No name server for {host}")
        return allowed(host, *args, **kwargs)

    return getaddrinfo
