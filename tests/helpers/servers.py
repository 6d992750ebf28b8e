"""A server of files on this machine whose connections break."""

from __future__ import annotations

import random
import re
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Web(ThreadingHTTPServer):
    """A folder behind HTTP.

    Args:
        folder: what is served.
        breaks: the share of answers that end in their middle, with the connection.
        ranges: whether parts of files can be asked for.

    Attributes:
        sent: bytes of each file that went out.
        asked: requests of each file.
        broken: answers that ended in their middle.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path, breaks: float = 0.0, ranges: bool = True) -> None:
        self.folder, self.breaks, self.ranges = folder, breaks, ranges
        self.sent, self.asked, self.broken = Counter[str](), Counter[str](), 0
        self.random, self.lock = random.Random(0), threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Of the folder."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: connections break on purpose."""

    def __enter__(self) -> Web:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Web
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        name = self.path.lstrip("/")
        path = self.server.folder / name
        if not path.is_file():
            self.send_error(404)
            return
        data, start, status = path.read_bytes(), 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        total = len(data)
        if wanted and self.server.ranges:
            start, status = int(wanted[1]), 206
            data = data[start : int(wanted[2]) + 1 if wanted[2] else None]
        self.send_response(status)
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{total}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return
        with self.server.lock:
            breaks = self.server.random.random() < self.server.breaks
            keep = self.server.random.randrange(len(data)) if breaks else len(data)
            self.server.asked[name] += 1
            self.server.broken += breaks
        self.wfile.write(data[:keep])
        with self.server.lock:
            self.server.sent[name] += keep
        if breaks:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])
