"""Talking to the server: requests, and every way they can fail turned into words."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from app.cli.failures import DENIED, FAILED, UNREACHABLE, Failure, Fault
from app.cli.server import Server, find
from app.wire.base import View
from app.wire.problems import ErrorBody

V = TypeVar("V", bound=View)

API = "/api/v1"
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
UPLOAD_TIMEOUT = httpx.Timeout(None, connect=5.0)
"""A dataset of many gigabytes is validated before the answer comes."""


class Api:
    """The REST API of one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
        # A proxy from the environment cannot reach this machine's own loopback address.
        self._http = httpx.Client(base_url=server.url, headers=headers, timeout=TIMEOUT, trust_env=not server.local)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to `/api/v1` + `path`; raise Failure unless the answer is a success or 304."""
        with self._reaching():
            response = self._http.request(method, API + path, **options)
        if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
            return response
        raise refusal(response, self.server)

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON answer to a GET."""
        return _json(self.request("GET", path, params={k: v for k, v in params.items() if v not in (None, [])}))

    def post(self, path: str, **options: Any) -> Any:
        """Return the JSON answer to a POST."""
        return _json(self.request("POST", path, **options))

    @contextlib.contextmanager
    def stream(self, path: str, headers: Mapping[str, str] | None = None, **params: Any) -> Iterator[httpx.Response]:
        """Open a download; raise Failure unless the answer is a success or 416 (nothing left of the range)."""
        # Bytes as they are stored: ranges and digests are about those.
        headers = {"Accept-Encoding": "identity", **(headers or {})}
        with self._reaching(), self._http.stream("GET", API + path, headers=headers, params=params) as response:
            if not response.is_success and response.status_code != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                response.read()
                raise refusal(response, self.server)
            yield response

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise _unreachable(self.server, "did not answer in time") from error
        except httpx.TransportError as error:
            raise _unreachable(self.server, f"cannot be reached ({error})") from error


@contextlib.contextmanager
def connect(server: Server | None = None) -> Iterator[Api]:
    """Yield the API of a server, by default the one that environment, login or data directory name."""
    api = Api(server or find())
    try:
        yield api
    finally:
        api.close()


def _unreachable(server: Server, what: str) -> Failure:
    hint = f"The address comes from {server.url_from}. "
    hint += "Is `cairn up` running?" if server.local else "Is it right, and the server running?"
    return Failure(f"{server.url} {what}.", code="server-unreachable", hint=hint, exit_code=UNREACHABLE)


def refusal(response: httpx.Response, server: Server) -> Failure:
    """Return the failure that an error response stands for."""
    status = response.status_code
    denied = status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
    try:
        body = ErrorBody.model_validate_json(response.content)
    except ValidationError:
        return Failure(
            f"{server.url} answered {status} {response.reason_phrase}, and not in Cairn's words.",
            code="not-cairn",
            hint="Something else answers at this address, or a proxy stands between.",
            exit_code=UNREACHABLE,
        )
    problems = body.problems or [body]
    faults = [Fault(p.code, p.message, p.pointer, p.hint) for p in problems]
    if status == httpx.codes.UNAUTHORIZED:
        faults[0] = faults[0]._replace(hint=_token_hint(server))
    return Failure.of(faults, DENIED if denied else FAILED)


def _token_hint(server: Server) -> str:
    if server.token is None:
        return f"No token is known for {server.url}: set CAIRN_TOKEN or run `cairn login {server.url}`."
    return f"The token comes from {server.token_from}. Run `cairn login {server.url}` with a valid one."


def _json(response: httpx.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as error:
        raise Failure(
            "The server's answer is not JSON.",
            code="not-cairn",
            hint="Something else answers at this address.",
            exit_code=UNREACHABLE,
        ) from error


def view(kind: type[V], data: Any) -> V:
    """Return an answer as a typed view."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise Failure(
            f"The server's answer is not the {kind.__name__} this client knows (at {where}).",
            code="version-mismatch",
            hint="Use a client of the server's version.",
        ) from error
