"""The worker protocol, client side: one short function per message. Mirrors `app/worker_api.py`."""

import random
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from app.wire.checkpoints import CheckpointView
from app.wire.problems import ErrorBody
from app.wire.submission import CheckpointPolicy
from app.wire.worker import (
    METRICS_MEDIA_TYPE,
    ArtifactPut,
    ArtifactView,
    AttemptEvent,
    AttemptEvents,
    Bye,
    CheckpointPut,
    Claim,
    ClaimRequest,
    End,
    EndAnswer,
    ErrandClaim,
    ErrandGrant,
    ErrandResult,
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    JobFilePut,
    LogAnswer,
    Presence,
    PresenceAnswer,
    Reserve,
    ReserveAnswer,
    Welcome,
)

_T = TypeVar("_T", bound=BaseModel)
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class Unreachable(Exception):
    """The control plane does not answer, or not now. Ask again later."""


class ServerFull(Unreachable):
    """The server has no room for what was sent, for now."""


class Rejection(Exception):
    """The control plane said no."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Refused(Rejection):
    """No, and the same message would be refused again."""


class NotClaimable(Rejection):
    """The job is gone, taken, or not queued any more: a doorbell rung twice."""


class ProtocolMismatch(Rejection):
    """Server and worker are of versions that could misunderstand each other."""


class UnknownWorker(Rejection):
    """The control plane does not know this worker (any more): it should introduce itself."""


class AttemptSuperseded(Rejection):
    """The attempt has ended or another one has taken its place: its trainer must die, its results are void."""


class ErrandSuperseded(Rejection):
    """The errand is over, or another worker has it now: what came of it here is void."""


_MEANINGS: dict[str, type[Rejection]] = {
    "attempt-superseded": AttemptSuperseded,
    "errand-superseded": ErrandSuperseded,
    "not-claimable": NotClaimable,
    "protocol-mismatch": ProtocolMismatch,
    "unknown-worker": UnknownWorker,
}


_FOREIGN = "http-"
"""What the code of an answer begins with that is not in our form: a proxy's, which may be another one in a moment."""
_WRONG_CONTENT = frozenset({400, 413, 415, 422})
"""Of these also a proxy's answer is about what was sent: it would be the same again."""


class Hurry(Protocol):
    """What ends waiting and transfers early: an event, or something like one."""

    def is_set(self) -> bool:
        """Return whether it is time to go."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether it is time to go, after at most `timeout` seconds."""


@dataclass(frozen=True)
class Api:
    """A connection pool, who speaks, and how patiently. Safe to use from many threads.

    Tries of an idempotent message: at most `tries`, with full jitter between them. Waiting ends early when `hurry` is set.
    """

    http: httpx.Client
    token: str
    attempt_id: int | None = None
    tries: int = 4
    hurry: Hurry = field(default_factory=threading.Event)
    errand_id: int | None = None

    def for_attempt(self, claim: Claim, hurry: Hurry) -> "Api":
        """Return the same connections under an attempt's own token."""
        return Api(self.http, claim.token, claim.attempt_id, self.tries, hurry)

    def for_errand(self, grant: ErrandGrant, hurry: Hurry) -> "Api":
        """Return the same connections under an errand's own token, which opens its file and no other."""
        return Api(self.http, grant.token, None, self.tries, hurry, grant.errand_id)


def connect(api_url: str, token: str) -> Api:
    """Return a connection pool to the control plane; nothing is sent yet."""
    base = f"{api_url.rstrip('/')}/api/v1/worker"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=60.0)
    # A proxy of the environment is for the world outside, never for a server on this machine.
    is_here = httpx.URL(base).host in {"localhost", "127.0.0.1", "::1"}
    return Api(httpx.Client(base_url=base, timeout=_TIMEOUT, limits=limits, trust_env=not is_here), token)


def hello(api: Api, message: Hello) -> Welcome:
    """Introduce this worker process."""
    return _read(Welcome, send(api, "POST", "/hello", body=message))


def presence(api: Api, message: Presence) -> PresenceAnswer:
    """Say that this worker is alive."""
    return _read(PresenceAnswer, send(api, "POST", "/presence", body=message, tries=1))


def bye(api: Api, message: Bye) -> None:
    """Say that this worker has stopped."""
    send(api, "POST", "/bye", body=message, tries=1)


def claim(api: Api, message: ClaimRequest) -> Claim:
    """Take a job.

    Repeated only when the request cannot have arrived: an answer that gets lost leaves an attempt that nobody runs
    until its lease expires, and a second claim of it would be refused anyway.
    """
    return _read(Claim, send(api, "POST", "/claim", body=message, idempotent=False))


def reserve(api: Api, message: Reserve) -> ReserveAnswer:
    """Ask whether to go on keeping slots free for a job that takes several."""
    return _read(ReserveAnswer, send(api, "POST", "/reserve", body=message, tries=1))


def heartbeat(api: Api, message: Heartbeat, timeout_s: float) -> HeartbeatAnswer:
    """Keep the lease. One try: the next heartbeat is the repetition."""
    path = f"{_attempt(api)}/heartbeat"
    return _read(HeartbeatAnswer, send(api, "POST", path, body=message, tries=1, timeout=timeout_s))


def metrics(api: Api, seq: int, data: bytes) -> None:
    """Deliver one spooled batch."""
    headers = {"Content-Type": METRICS_MEDIA_TYPE}
    send(api, "POST", f"{_attempt(api)}/metrics", params={"seq": seq}, content=lambda: data, headers=headers)


def logs(api: Api, offset: int, data: bytes) -> LogAnswer:
    """Deliver bytes of the log."""
    headers = {"Content-Type": "application/octet-stream"}
    path, params = f"{_attempt(api)}/logs", {"offset": offset}
    return _read(LogAnswer, send(api, "POST", path, params=params, content=lambda: data, headers=headers))


def events(api: Api, items: list[AttemptEvent]) -> None:
    """Put events on the job's timeline."""
    send(api, "POST", f"{_attempt(api)}/events", body=AttemptEvents(events=items))


def environment(api: Api, data: bytes) -> None:
    """Record hardware and library versions; `data` is a JSON object."""
    headers = {"Content-Type": "application/json"}
    send(api, "PUT", f"{_attempt(api)}/environment", content=lambda: data, headers=headers)


def get_artifact(api: Api, kind: str, key: str) -> ArtifactView | None:
    """Return the artifact kept under a key, or None."""
    try:
        return _read(ArtifactView, send(api, "GET", f"/artifacts/{kind}/{key}"))
    except Refused as error:
        if error.status == 404:
            return None
        raise


def put_artifact(api: Api, kind: str, key: str, message: ArtifactPut) -> ArtifactView:
    """Keep an artifact; returns the one that stands, which is another worker's if that was first."""
    return _read(ArtifactView, send(api, "PUT", f"/artifacts/{kind}/{key}", body=message))


def policy(api: Api) -> CheckpointPolicy:
    """Return which checkpoints the job keeps as of now. One try: who asks knows what it was before."""
    return _read(CheckpointPolicy, send(api, "GET", f"{_attempt(api)}/retention", tries=1))


def checkpoint(api: Api, message: CheckpointPut) -> CheckpointView:
    """Register a checkpoint whose blobs the server has."""
    return _read(CheckpointView, send(api, "POST", f"{_attempt(api)}/checkpoints", body=message))


def file(api: Api, message: JobFilePut) -> None:
    """Register a file beside the checkpoints whose blob the server has."""
    send(api, "POST", f"{_attempt(api)}/files", body=message)


def end(api: Api, message: End) -> EndAnswer:
    """Propose how the attempt ended."""
    return _read(EndAnswer, send(api, "POST", f"{_attempt(api)}/end", body=message))


def claim_errand(api: Api, errand_id: int, message: ErrandClaim) -> ErrandGrant:
    """Take an errand. Repeated as rarely as `claim`, for the same reason."""
    return _read(ErrandGrant, send(api, "POST", f"/errands/{errand_id}/claim", body=message, idempotent=False))


def errand_result(api: Api, message: ErrandResult) -> None:
    """Deliver what came of an errand. When it had arrived before, that is `ErrandSuperseded`."""
    send(api, "POST", f"{errand_path(api)}/result", body=message)


def errand_path(api: Api) -> str:
    """Return where the messages of an errand go."""
    assert api.errand_id is not None, "this message belongs to an errand"
    return f"/errands/{api.errand_id}"


def _attempt(api: Api) -> str:
    assert api.attempt_id is not None, "this message belongs to an attempt"
    return f"/attempts/{api.attempt_id}"


def headers_of(api: Api) -> dict[str, str]:
    """Return what tells the server who speaks."""
    return {"Authorization": f"Bearer {api.token}"}


def send(
    api: Api,
    method: str,
    path: str,
    *,
    body: BaseModel | None = None,
    content: Callable[[], Any] | None = None,
    headers: dict[str, str] | None = None,
    params: dict[str, int] | None = None,
    tries: int | None = None,
    idempotent: bool = True,
    timeout: float | None = None,
    answers: Collection[int] = (),
) -> httpx.Response:
    """Send, and send again while the server cannot be reached; return an answer that is a success or of `answers`."""
    headers = headers_of(api) | (headers or {})
    if body is not None:
        headers["Content-Type"] = "application/json"
    left = tries or api.tries
    while True:
        left -= 1
        try:
            payload = body.model_dump_json() if body is not None else content() if content else None
            response = api.http.request(
                method, path, content=payload, headers=headers, params=params,
                timeout=_TIMEOUT if timeout is None else timeout,
            )  # fmt: skip
            return response if response.status_code in answers else check(api, response)
        except (Unreachable, httpx.RequestError) as error:
            repeatable = idempotent or isinstance(error, httpx.ConnectError)
            if left <= 0 or not repeatable or api.hurry.wait(_pause(left, tries or api.tries)):
                raise (error if isinstance(error, Unreachable) else Unreachable(describe(error))) from error


def _pause(left: int, tries: int) -> float:
    return random.uniform(0.05, min(3.0, 0.25 * 2 ** (tries - left)))  # noqa: S311 - jitter, not a secret


def check(api: Api, response: httpx.Response) -> httpx.Response:
    """Return a success; raise what a failure means."""
    status = response.status_code
    if status < 300:
        return response
    code, message = _problem(response)
    if status == 507:
        raise ServerFull(message)
    if status == 429 or status >= 500:
        raise Unreachable(f"answered {status} ({message})")
    has_body = response.request.method != "HEAD"
    if has_body and code.startswith(_FOREIGN) and status not in _WRONG_CONTENT:
        raise Unreachable(f"answered {status}, and not as a Cairn server does ({message})")
    is_bare = status == 409 and not has_body  # its code would be in the body
    if api.attempt_id is not None and (status == 401 or is_bare):
        # An attempt's token dies with it; the server may have forgotten the whole attempt (its job was deleted).
        raise AttemptSuperseded(status, code, f"the attempt's token is not valid any more ({message})")
    if api.errand_id is not None and status == 401:
        raise ErrandSuperseded(status, code, f"the errand's token is not valid any more ({message})")
    raise _MEANINGS.get(code, Refused)(status, code, message)


def _problem(response: httpx.Response) -> tuple[str, str]:
    try:
        error = ErrorBody.model_validate_json(response.content)
    except ValidationError:
        return f"{_FOREIGN}{response.status_code}", f"HTTP {response.status_code}: {response.text[:200]}".strip(": ")
    return error.code, f"{error.message} {error.hint or ''}".strip()


def _read(model: type[_T], response: httpx.Response) -> _T:
    """Return the answer as a message; anything else is no answer of a Cairn server, but a page of something in between."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise Unreachable(f"{response.url} did not answer with a {model.__name__}: {error}") from error


def describe(error: Exception) -> str:
    """Return an error's words, or its name if it has none."""
    return str(error) or type(error).__name__
