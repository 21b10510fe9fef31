"""A TCP proxy between us and PostgreSQL that can fall silent: connections stay open, and nothing passes any more."""

import contextlib
import socket
import threading
from urllib.parse import parse_qs, urlsplit


class Proxy:
    """`url` goes through it. `silent()`: nothing passes, on old connections and on new ones; `passing()`: new
    ones work again, and the old ones stay dead. `cut()` closes every connection.
    """

    def __init__(self, url: str, port: int = 0) -> None:
        parts = urlsplit(url)
        self._server = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self._listener = socket.create_server(("127.0.0.1", port))
        port = self._listener.getsockname()[1]
        self.url = f"postgresql://{parts.netloc.rstrip('@') or 'postgres'}@127.0.0.1:{port}{parts.path}"
        self._open = True
        self._generation = 0
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def silent(self) -> None:
        self._open = False
        self._generation += 1

    def passing(self) -> None:
        self._generation += 1
        self._open = True

    def cut(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
            self._sockets += [client, server]
            generation = self._generation
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, target, generation), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, generation: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if self._passes(generation):
                    target.sendall(data)
            if self._passes(generation):
                target.shutdown(socket.SHUT_RDWR)

    def _passes(self, generation: int) -> bool:
        return self._open and generation == self._generation
