"""Bytes over HTTP on this machine, served at once, slowly, or with a stop in the middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def served(
    content: bytes, *, pieces: int = 1, pause_seconds: float = 0.0, stall_at: int | None = None, lost: int = 0
) -> Iterator[str]:
    """The URL of `content`, in pieces with a pause between.

    After piece `stall_at` nothing comes, and it stays open. Where bytes are `lost`, it ends before what it promised.
    """
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.send_header("Content-Length", str(len(content) + lost))
            self.end_headers()
            size = -(-len(content) // pieces)
            try:
                for number in range(pieces):
                    if number == stall_at:
                        done.wait(60)
                        return
                    self.wfile.write(content[number * size : (number + 1) * size])
                    self.wfile.flush()
                    done.wait(pause_seconds)
            except OSError:  # the client has gone
                return

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/video.ts"
    finally:
        done.set()
        server.shutdown()
        server.server_close()
        thread.join()
