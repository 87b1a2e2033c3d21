"""A network that misbehaves: a proxy on loopback between a store and its server, told by the test what to do."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

_CHUNK = 65536


class Proxy:
    """Passes bytes on. `watch(data, to_server)` sees each piece first, and returns whether to pass it on."""

    def __init__(self, server: str) -> None:
        self._target = (urlsplit(server).hostname or "127.0.0.1", urlsplit(server).port or 5432)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._mutex = threading.Lock()
        self.watch: Callable[[bytes, bool], bool] = lambda _data, _to_server: True
        self.delay = 0.0
        self._closing = False
        self._run(self._accept)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listening.getsockname()[1]
        return port

    def url(self, url: str) -> str:
        """Return a URL of the server as one of the proxy."""
        return url.replace(f"{self._target[0]}:{self._target[1]}", f"127.0.0.1:{self.port}", 1)

    def cut(self) -> None:
        """Break every connection there is, as a router that forgot them."""
        with self._mutex:
            sockets, self._sockets = self._sockets, []
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def half_close(self, *, to_server: bool) -> None:
        """Close every connection in one direction: that side reads its end, and may still write."""
        with self._mutex:
            for client, server in zip(self._sockets[::2], self._sockets[1::2], strict=True):
                with contextlib.suppress(OSError):
                    (server if to_server else client).shutdown(socket.SHUT_WR)

    def _run(self, act: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=act, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:  # the server is away
                client.close()
                continue
            with self._mutex:
                self._sockets += [client, server]
            self._run(self._pass_on, client, server, True)
            self._run(self._pass_on, server, client, False)

    def _pass_on(self, source: socket.socket, target: socket.socket, to_server: bool) -> None:
        try:
            while data := source.recv(_CHUNK):
                time.sleep(self.delay)
                if self.watch(data, to_server):
                    target.sendall(data)
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):  # half-closed: the other direction may go on
                target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End it."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join(10.0)


@contextmanager
def proxied(server: str) -> Iterator[Proxy]:
    """Run a proxy in front of a server."""
    proxy = Proxy(server)
    try:
        yield proxy
    finally:
        proxy.close()
