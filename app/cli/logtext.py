"""`cairn logs`: what a trainer printed."""

import codecs
import sys
import time
from typing import Any

from app.cli.api import Api, connect
from app.cli.failures import Failure
from app.cli.screen import print_json_line
from app.cli.watching import POLL_S
from app.wire.jobs import FINAL_STATES

Position = tuple[int, int]
"""Number of an execution, and how many bytes of its log have been printed."""


def logs(job_id: int, *, follow_on: bool, tail: int | None, attempt: int | None, as_json: bool) -> None:
    """Print a job's log, and keep printing until the job ends when asked to; a new execution is announced."""
    api = connect()
    printer = Printer(as_json=as_json)
    position = _print_tail(api, job_id, tail, attempt, printer) if tail is not None else (attempt or 0, 0)
    while True:
        ended = not follow_on or api.get(f"/jobs/{job_id}")["state"] in FINAL_STATES
        position = _print_rest(api, job_id, attempt, position, printer)
        if ended:
            printer.finish()
            return
        time.sleep(POLL_S)


class Printer:
    """Writes log text to standard output as it comes: as it is, or as one JSON object a line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line = ""
        self._attempt = 0

    def write(self, attempt: int, data: bytes) -> None:
        """Print bytes of an execution's log."""
        if attempt != self._attempt and self._attempt:
            self.finish()
            sys.stderr.write(f"--- execution {attempt} ---\n")
        self._attempt = attempt
        text = self._decoder.decode(data)
        if not self._as_json:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            print_json_line({"attempt": attempt, "line": line})

    def finish(self) -> None:
        """Print a last line that has no end."""
        if self._line:
            print_json_line({"attempt": self._attempt, "line": self._line})
        self._line = ""


def _print_tail(api: Api, job_id: int, tail: int, attempt: int | None, printer: Printer) -> Position:
    response = _read(api, job_id, attempt=attempt, tail=tail)
    number = int(response.headers["X-Attempt"])
    printer.write(number, response.content)
    return number, int(response.headers["X-Log-Size"])


def _print_rest(api: Api, job_id: int, attempt: int | None, position: Position, printer: Printer) -> Position:
    """Print what has come since `position`; return where that was."""
    number, offset = position
    while True:
        response = _read(api, job_id, attempt=attempt, offset=offset)
        newest, size = int(response.headers["X-Attempt"]), int(response.headers["X-Log-Size"])
        if newest != number and offset:
            # Another execution has begun: its log from the start.
            number, offset = newest, 0
            continue
        printer.write(newest, response.content)
        number, offset = newest, offset + len(response.content)
        if offset >= size or not response.content:
            return number, offset


def _read(api: Api, job_id: int, **options: Any) -> Any:
    params = {name: value for name, value in options.items() if value is not None}
    response = api.request("GET", f"/jobs/{job_id}/logs", params=params)
    if "X-Log-Size" not in response.headers:
        raise Failure("The server does not say how long the log is.", code="version-mismatch")
    return response
