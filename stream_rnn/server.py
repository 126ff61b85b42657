"""Serves the daemon's own pages (pages.py) beside the engine, which it never holds up.

One request a connection, each in a thread of its own; a client that is slow is cut off, and of many some are. Only the
loopback may be listened on without a token; with one, every page wants `Authorization: Bearer …`.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from stream_rnn import __version__, listen
from stream_rnn.errors import ListenError
from stream_rnn.pages import TEXT, Pages
from stream_rnn.units import Secret

if TYPE_CHECKING:
    from stream_rnn.engine import Engine

logger = logging.getLogger("stream_rnn.http")

_WAIT_S = 5.0  # for a client's next byte
_OPEN_S = 15.0  # of one connection, in all
_CONNECTIONS = 32  # at a time; more are hung up on
_LOOK_S = 0.1  # between two looks at whether to end
_FINISH_S = 1.0  # at the end, for answers under way


class Server:
    """Serves an engine's pages from its making to `close`, or as a context. `url`: where."""

    def __init__(self, engine: Engine, where: str, token: str | Secret | None = None) -> None:
        listen.check(where, token)
        host, port = listen.address_of(where)
        secret = listen.token_of(token)
        try:
            self._server = _Server(host, port, Pages(engine), None if secret is None else secret.encode())
        except OSError as e:
            raise ListenError(f"http.listen = {where!r}: {listen.why_not(e)}") from None
        self.port = self._server.server_port
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(_LOOK_S,), name="http", daemon=True).start()
        logger.info("listening", extra={"fields": {"at": self.url}})

    def close(self) -> None:
        """Take no more requests; answers under way are finished, if that is quick."""
        self._server.shutdown()
        self._server.server_close()
        until = time.monotonic() + _FINISH_S
        while self._server.answering and time.monotonic() < until:
            time.sleep(0.01)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    """A bounded number of connections, each for a bounded time."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, pages: Pages, token: bytes | None) -> None:
        self.pages, self.token = pages, token
        self.answering = 0  # requests that are being answered
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without asking the name service for our own name, as the library's would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take it, if there are not too many."""
        with self._lock:
            full = len(self._open) >= _CONNECTIONS
            if not full:
                self._open[request] = time.monotonic()
        if full:
            logger.warning("too many connections: one more is hung up on")
            super().shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """It is over."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Now and then: cut off those that take too long."""
        with self._lock:
            late = [s for s, since in self._open.items() if time.monotonic() - since > _OPEN_S]
        for s in late:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""
        logger.debug("a request failed", exc_info=True)

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """An answer."""
        with self._lock:
            self.answering += 1
        try:
            yield
        finally:
            with self._lock:
                self.answering -= 1


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: _Server
    timeout = _WAIT_S
    error_content_type = TEXT
    error_message_format = "%(code)d %(message)s\n"

    def do_GET(self) -> None:
        """A page."""
        with self.server.under_way():
            if not self._allowed():
                headers = {"WWW-Authenticate": 'Bearer realm="stream-rnn"'}
                text = b"401 Authorization: Bearer with the job's http.token is wanted\n"
                self._send(HTTPStatus.UNAUTHORIZED, TEXT, text, headers)
                return
            path = self.path.partition("?")[0]
            page = self.server.pages.by_path.get(path)
            if page is None:
                text = f"404 there are {', '.join(self.server.pages.by_path)}\n".encode()
                self._send(HTTPStatus.NOT_FOUND, TEXT, text)
                return
            try:
                found = page(self.headers.get("Accept", ""))
            except Exception:
                logger.exception("the page %s failed", path)
                found = HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, b"500 see the job's log\n"
            self._send(*found)

    do_HEAD = do_GET

    def version_string(self) -> str:
        """Who answers."""
        return f"stream-rnn/{__version__}"

    def _refuse(self) -> None:
        """These pages are only looked at."""
        text = b"405 only GET and HEAD\n"
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, TEXT, text, {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _allowed(self) -> bool:
        """Whether it brings the token, if one is wanted; how long that takes tells nothing of it."""
        if self.server.token is None:
            return True
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self.server.token)
        return same and scheme.lower() == "bearer"

    def _send(self, status: HTTPStatus, content_type: str, text: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        about = {"Content-Type": content_type, "Content-Length": str(len(text)), "Cache-Control": "no-store"}
        for name, value in (about | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Not what was asked: it may hold anything."""

    def log_error(self, format: str, *args: Any) -> None:
        """Nor that."""
