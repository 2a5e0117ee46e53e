"""HTTP server on METRICS_PORT: few connections at once, and none that is silent for long."""

import socket
import threading
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

_MOST_CONNECTIONS = 8
"""Largest number of connections. One more closes the oldest: slow clients can't keep Prometheus out."""
_SILENCE = 10
"""Seconds in which a client must send part of its request, or take part of the answer."""


class _Handler(WSGIRequestHandler):
    timeout = _SILENCE

    def log_message(self, *_: object) -> None:
        """Log nothing: scrapes are many."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[_Handler], *, family: socket.AddressFamily) -> None:
        self.address_family = family
        self._open: dict[socket.socket, None] = {}  # oldest first
        self._changing = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            self._open[request] = None
            if len(self._open) > _MOST_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):  # it has ended by itself
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread finds it ended, and closes it
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        with self._changing:
            self._open.pop(request, None)
        super().close_request(request)

    def handle_error(self, *_: object) -> None:
        """Log nothing: the only errors here are clients that went away."""


def start_metrics_server(host: str, port: int, registry: CollectorRegistry) -> None:
    """Answer scrapes in threads for as long as the process runs. Raises `OSError` or `UnicodeError`."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    server = _Server((str(address[0]), port), _Handler, family=family)
    server.set_app(make_wsgi_app(registry))
    threading.Thread(target=server.serve_forever, daemon=True).start()
