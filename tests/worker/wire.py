"""A small HTTP server that answers as told: it can be slow, rude and cut off, which the real API should not be."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from worker import client


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    status: int = 204
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Close the connection after so many bytes of the body."""


@dataclass
class Wire:
    url: str
    requests: list[Request]
    answer: Callable[[Request], Answer] = lambda _: Answer()

    @contextmanager
    def api(self, attempt_id: int | None = 7, tries: int = 3) -> Iterator[client.Api]:
        plain = client.connect(self.url, "secret")
        with plain.http:
            yield client.Api(plain.http, "secret", attempt_id, tries)


def problem(status: int, code: str, message: str = "no") -> Answer:
    return Answer(status, f'{{"code": "{code}", "message": "{message}"}}'.encode())


@contextmanager
def serving() -> Iterator[Wire]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            request = Request(self.command, self.path, dict(self.headers), self.rfile.read(length))
            wire.requests.append(request)
            answer = wire.answer(request)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if request.method != "HEAD":
                self.wfile.write(answer.body[: answer.cut_after])
            self.close_connection = answer.cut_after is not None

        do_GET = do_PUT = do_POST = do_HEAD = handle_one  # noqa: N815 - the names http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hangs up early is one of the things these tests do."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        wire = Wire(f"http://127.0.0.1:{server.server_port}", [])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield wire
        server.shutdown()
        thread.join()
