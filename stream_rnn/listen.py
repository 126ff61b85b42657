"""Where the daemon's own pages may be served: the address and token of [http], and what can be wrong with them."""

from __future__ import annotations

import errno
import ipaddress
import socket

from stream_rnn.errors import ConfigError
from stream_rnn.units import Secret


def address_of(listen: str) -> tuple[str, int]:
    """Host and port of "host:port"; ConfigError if it is not that.

    >>> address_of("127.0.0.1:8080"), address_of("[::1]:0")
    (('127.0.0.1', 8080), ('::1', 0))
    """
    host, _, port = listen.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    brackets = host == f"[{bare}]"
    if not bare or not (port.isascii() and port.isdecimal() and int(port) < 65536) or (":" in bare) != brackets:
        raise ConfigError(f'http.listen = {listen!r}: write "address:port", for example "127.0.0.1:8080", "[::1]:8080"')
    return bare, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def token_of(token: str | Secret | None) -> str | None:
    """Its text; ConfigError if it can be none."""
    text = token.reveal() if isinstance(token, Secret) else token
    if text is not None and (not text or not text.isprintable() or " " in text):
        raise ConfigError(
            "http.token is empty, or has spaces or control characters in it: is its environment variable set? "
            'Make one: export STREAM_RNN_TOKEN="$(openssl rand -hex 32)"'
        )
    return text


def check(listen: str, token: str | Secret | None) -> None:
    """ConfigError for an address that is none, or that is open to others without a token."""
    host, _ = address_of(listen)
    if token_of(token) is None and not is_loopback(host):
        raise ConfigError(
            f"http.listen = {listen!r} is open to others: listen on 127.0.0.1, or set "
            'http.token = "${STREAM_RNN_TOKEN}" and that environment variable to a secret'
        )


def why_not(error: OSError) -> str:
    """What is wrong with an address that cannot be listened on, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return "another process listens there (another job?); give this one another port, or port 0 for any"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "this user may not listen there; take a port from 1024 on"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return "this machine has no such address; 127.0.0.1 is the machine itself, 0.0.0.0 all its addresses"
    return error.strerror or str(error)
