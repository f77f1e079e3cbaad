"""`cairn logs`: what a trainer printed."""

import codecs
import sys
import time

import httpx

from app.cli.api import Api, connect
from app.cli.failures import Failure
from app.cli.screen import print_json_line
from app.cli.watching import POLL_S
from app.wire.states import FINAL_STATES


def logs(job_id: int, *, follow_on: bool, tail: int | None, attempt: int | None, as_json: bool) -> None:
    """Print a job's log, and keep printing until the job ends when asked to; a new execution is announced."""
    printer = Printer(as_json=as_json)
    with connect() as api:
        number, offset = attempt, 0
        if tail is not None:
            number, offset = _print_tail(api, job_id, attempt, tail, printer)
        while True:
            job = api.get(f"/jobs/{job_id}")
            newest = attempt or job["attempt"]
            number = number or newest
            offset = _print_rest(api, job_id, number, offset, printer)
            for later in range(number + 1, newest + 1):
                number, offset = later, _print_rest(api, job_id, later, 0, printer)
            if not follow_on or job["state"] in FINAL_STATES:
                break
            time.sleep(POLL_S)
    printer.finish()


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


def _print_tail(api: Api, job_id: int, attempt: int | None, tail: int, printer: Printer) -> tuple[int, int]:
    """Print the last lines; return of which execution, and where its log ended."""
    response = _read(api, job_id, attempt=attempt, tail=tail)
    number = int(response.headers["X-Attempt"])
    printer.write(number, response.content)
    return number, int(response.headers["X-Log-Size"])


def _print_rest(api: Api, job_id: int, number: int, offset: int, printer: Printer) -> int:
    """Print an execution's log from `offset` on; return where it ended."""
    size = offset + 1 if number else 0
    while offset < size:
        response = _read(api, job_id, attempt=number, offset=offset)
        size = int(response.headers["X-Log-Size"])
        printer.write(number, response.content)
        offset += len(response.content)
        if not response.content:
            break
    return offset


def _read(api: Api, job_id: int, **options: int | None) -> httpx.Response:
    params = {name: value for name, value in options.items() if value is not None}
    response = api.request("GET", f"/jobs/{job_id}/logs", params=params)
    if "X-Log-Size" not in response.headers:
        raise Failure("The server does not say how long the log is.", code="version-mismatch")
    return response
