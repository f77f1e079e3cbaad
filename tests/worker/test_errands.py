"""Errands from the ring to the result: real Redis, real HTTP, a real process, and a server that answers as told."""

import hashlib
import json
import queue
import re
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from celery import Celery

from app.wire.doorbell import ERRAND_TASK_NAME, errand_queue_name
from app.wire.models import BaseFacts, Inventory
from app.wire.worker import Gpu
from tests.conftest import _redis_program, _wait_for_port, find_free_port
from tests.worker.engines.deepmd import model_files
from tests.worker.wire import Answer, Request, Wire, problem, serving
from worker import celery_app, errands
from worker.children import Forkserver
from worker.gpus import Device
from worker.runtime import Runtime
from worker.settings import WorkerSettings

pytestmark = pytest.mark.deepmd

PATIENCE_S = 120


class Desk:
    """The server's side of errands: grants, files, results."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.grants: dict[int, dict[str, Any]] = {}
        self.files: dict[int, bytes] = {}
        self.heard: queue.Queue[tuple[int, dict[str, Any], str]] = queue.Queue()
        self.before: Callable[[Request], Answer | None] = lambda _: None
        wire.answer = self.answer

    def offer(self, errand_id: int, kind: str = "inspect", *, file: bytes | None = None, **grant: Any) -> None:
        """Have an errand to be claimed once."""
        more: dict[str, Any] = {"order": {}}
        if file is not None:
            self.files[errand_id] = file
            more = {"order": {}, "blob_sha256": hashlib.sha256(file).hexdigest(), "size": len(file)}
        self.grants[errand_id] = {
            "errand_id": errand_id, "kind": kind, "engine": "deepmd", "file_name": "water.pt",
            "token": f"for-{errand_id}", "lease_s": 60.0, **more, **grant,
        }  # fmt: skip

    def answer(self, request: Request) -> Answer:
        if early := self.before(request):
            return early
        match = re.fullmatch(r"/api/v1/worker/errands/(\d+)/(claim|blob|result)", request.path)
        assert match, request.path
        errand_id, what = int(match[1]), match[2]
        if what == "claim":
            grant = self.grants.pop(errand_id, None)
            return Answer(200, json.dumps(grant).encode()) if grant else problem(409, "not-claimable")
        if what == "blob":
            return self._blob(request, self.files[errand_id])
        self.heard.put((errand_id, json.loads(request.body), request.headers["Authorization"]))
        return Answer(204)

    def _blob(self, request: Request, data: bytes) -> Answer:
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        return Answer(206, data[int(wanted[1]) :]) if wanted else Answer(200, data)

    def result(self) -> tuple[int, dict[str, Any]]:
        errand_id, result, authorization = self.heard.get(timeout=PATIENCE_S)
        assert authorization == f"Bearer for-{errand_id}"
        return errand_id, result

    def problem(self) -> dict[str, Any]:
        _, result = self.result()
        assert result["result"] is None
        found: dict[str, Any] = result["problem"]
        assert found["hint"]
        return found

    def paths(self, ending: str) -> list[str]:
        return [request.path for request in self.wire.requests if request.path.endswith(ending)]


@pytest.fixture(scope="module")
def forkserver() -> Iterator[Forkserver]:
    server = Forkserver(["worker.engines.deepmd.preload", "tests.worker.victims"], threads=1)
    server.start()
    assert server.ready.wait(PATIENCE_S)
    yield server
    server.close()


@pytest.fixture(scope="module")
def water(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint of `dp --pt train`."""
    path = tmp_path_factory.mktemp("files") / "water.pt"
    return model_files.save(model_files.make_checkpoint("se_e2_a"), path).read_bytes()


@pytest.fixture
def desk() -> Iterator[Desk]:
    with serving() as wire:
        yield Desk(wire)


@pytest.fixture
def runtime(desk: Desk, forkserver: Forkserver, redis_url: str, tmp_path: Path) -> Runtime:
    return make_runtime(desk, forkserver, redis_url, tmp_path)


def make_runtime(desk: Desk, forkserver: Forkserver, redis_url: str, tmp_path: Path) -> Runtime:
    settings = WorkerSettings.model_validate(
        {
            "data_dir": tmp_path, "api_url": desk.wire.url, "worker_token": "worker", "redis_url": redis_url,
            "engines": "deepmd", "errand_memory_bytes": 1 << 30,
        }
    )  # fmt: skip
    runtime = Runtime(settings)
    runtime.forkserver = forkserver
    runtime.devices = []
    return runtime


@contextmanager
def listening(runtime: Runtime) -> Iterator[threading.Thread]:
    app = celery_app.make_app(runtime)
    app.conf.broker_transport_options["polling_interval"] = 0.05  # or every test ends with a second's wait for Redis
    thread = errands.listen(runtime, app)
    try:
        yield thread
    finally:
        runtime.shutdown.request()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def listener(runtime: Runtime) -> Iterator[threading.Thread]:
    with listening(runtime) as thread:
        yield thread


def ring(runtime: Runtime, *arguments: Any, task: str = ERRAND_TASK_NAME) -> None:
    """Ring as the server does."""
    with Celery("server", broker=runtime.settings.broker_url, set_as_current=False) as app:
        app.send_task(task, args=list(arguments), queue=errand_queue_name("deepmd"), ignore_result=True)


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


# --- what comes of them -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("listener")
def test_a_file_is_inspected_and_its_facts_are_delivered(desk: Desk, runtime: Runtime, water: bytes) -> None:
    desk.offer(5, file=water)
    ring(runtime, 5)
    errand_id, result = desk.result()
    facts = BaseFacts.model_validate(result["result"])
    assert (errand_id, facts.architecture, facts.step) == (5, "se_e2_a", 6)
    claim = next(request for request in desk.wire.requests if request.path.endswith("/claim"))
    assert json.loads(claim.body) == {"worker_id": runtime.worker_id}
    assert claim.headers["Authorization"] == "Bearer worker"
    wait_for(lambda: not list(runtime.settings.work_path.glob("errand-*")), "the end of its directory")


@pytest.mark.usefixtures("listener")
def test_a_model_is_listed(desk: Desk, runtime: Runtime) -> None:
    desk.offer(6, "inventory", order={"model": model_files.make_sections("multi-task")}, file_name=None)
    ring(runtime, 6)
    _, result = desk.result()
    tensors = Inventory.model_validate(result["result"]).tensors
    assert any(tensor.name.startswith("model.metal.") and tensor.alias_of for tensor in tensors)
    assert desk.paths("/blob") == []


@pytest.mark.usefixtures("listener")
def test_a_model_that_cannot_be_built_is_a_problem(desk: Desk, runtime: Runtime) -> None:
    desk.offer(6, "inventory", order={"model": {"type_map": ["O"], "descriptor": {"type": "dpa2"}}}, file_name=None)
    ring(runtime, 6)
    assert "cannot build this model" in desk.problem()["message"]


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self._path)!r}, 'w')",))


def make_hostile(kind: str, directory: Path) -> bytes:
    path = directory / "hostile.pt"
    if kind == "code":
        torch.save({"model": Trap(directory / "sprung")}, path)
    elif kind == "zip bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("m/data.pkl", bytes(300 << 20))
    elif kind == "memory":
        # One number on disk, eight billion when anybody looks at them.
        data = model_files.make_checkpoint("se_e2_a")
        data["model"]["model.Default.atomic_model.out_bias"] = torch.zeros(1).expand(2**33)
        torch.save(data, path)
    elif kind == "nothing":
        path.touch()
    else:
        torch.save(model_files.make_checkpoint("se_e2_a"), path)
        path.write_bytes(path.read_bytes()[:-100])
    return path.read_bytes()


@pytest.mark.usefixtures("listener")
@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("code", "unusable", "asks to run 'exec'"),
        ("zip bomb", "unusable", "would unpack to"),
        ("cut off", "unusable", "cut off"),
        ("nothing", "unusable", "empty (0 bytes)"),
        ("memory", "out-of-memory", "Looking into water.pt needs more than the 1.0 GiB of memory"),
    ],
)
def test_a_hostile_file_is_refused_with_words(
    kind: str, code: str, words: str, desk: Desk, runtime: Runtime, tmp_path: Path
) -> None:
    desk.offer(7, file=make_hostile(kind, tmp_path))
    ring(runtime, 7)
    found = desk.problem()
    assert found["code"] == code
    assert words in found["message"]
    assert not (tmp_path / "sprung").exists()


# --- processes that do not end well -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("listener")
@pytest.mark.parametrize(
    ("victim", "lease_s", "code", "words"),
    [
        ("crash", 60.0, "crashed", "Looking into water.pt crashed (signal 11)"),
        ("end_without_a_result", 60.0, "crashed", "exit code 0"),
        ("fail", 60.0, "crashed", "exit code 1"),
        ("wait_with_child", 3.0, "took-too-long", "took longer than the 3 s"),
    ],
)
def test_a_process_that_does_not_end_well_is_a_problem(
    victim: str,
    lease_s: float,
    code: str,
    words: str,
    desk: Desk,
    runtime: Runtime,
    water: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(errands, "ENTRY", f"tests.worker.victims:{victim}")
    desk.offer(8, file=water, lease_s=lease_s)
    ring(runtime, 8)
    found = desk.problem()
    assert found["code"] == code
    assert words in found["message"]
    assert _children_of(runtime) == []


def _children_of(runtime: Runtime) -> list[psutil.Process]:
    return psutil.Process(runtime.forkserver.pid).children(recursive=True)


def test_a_shutdown_ends_an_errand_without_a_word(
    desk: Desk, runtime: Runtime, water: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "ENTRY", "tests.worker.victims:wait")
    desk.offer(9, file=water)
    with listening(runtime):
        ring(runtime, 9)
        wait_for(lambda: _children_of(runtime), "the errand's process")
    assert _children_of(runtime) == []
    assert desk.paths("/result") == []


# --- a server and a broker that come and go ---------------------------------------------------------------------------


@pytest.mark.usefixtures("listener")
def test_what_is_not_to_be_had_or_no_errand_is_forgotten(desk: Desk, runtime: Runtime, water: bytes) -> None:
    ring(runtime, 1)
    ring(runtime, "many", "things")
    ring(runtime, 2, task="somebody.elses")
    desk.offer(3, file=water)
    ring(runtime, 3)
    assert desk.result()[0] == 3
    assert [path.split("/")[-2] for path in desk.paths("/claim")] == ["1", "3"]


@pytest.mark.usefixtures("listener")
def test_a_result_is_delivered_when_the_server_is_back(desk: Desk, runtime: Runtime, water: bytes) -> None:
    refused: list[str] = []

    def away(request: Request) -> Answer | None:
        if request.path.endswith("/result") and len(refused) < 6:  # more than one message is repeated
            refused.append(request.path)
            return problem(503, "unavailable")
        return None

    desk.before = away
    desk.offer(4, file=water)
    ring(runtime, 4)
    assert desk.result()[0] == 4
    assert len(refused) == 6


@pytest.mark.usefixtures("listener")
@pytest.mark.parametrize(("status", "code"), [(409, "errand-superseded"), (401, "unauthorized")])
def test_a_superseded_errand_is_dropped(status: int, code: str, desk: Desk, runtime: Runtime, water: bytes) -> None:
    def superseded(request: Request) -> Answer | None:
        return problem(status, code) if request.path.endswith("/4/result") else None

    desk.before = superseded
    desk.offer(4, file=water)
    desk.offer(5, file=water)
    ring(runtime, 4)
    ring(runtime, 5)
    assert desk.result()[0] == 5
    assert len(desk.paths("/4/result")) == 1


@pytest.mark.usefixtures("listener")
def test_a_download_goes_on_where_it_broke_off(desk: Desk, runtime: Runtime) -> None:
    text = b"not weights " * (1 << 18)

    def breaking(request: Request) -> Answer | None:
        if request.path.endswith("/blob") and "Range" not in request.headers:
            return Answer(200, text, cut_after=(5 << 20) // 2)
        return None

    desk.before = breaking
    desk.offer(5, file=text)
    ring(runtime, 5)
    assert "'not weights not" in desk.problem()["message"]
    ranges = [request.headers.get("Range") for request in desk.wire.requests if request.path.endswith("/blob")]
    assert ranges == [None, f"bytes={2 << 20}-"]


@pytest.mark.usefixtures("listener")
def test_a_file_that_the_server_cannot_give_is_a_problem(desk: Desk, runtime: Runtime, water: bytes) -> None:
    desk.offer(5, file=water, blob_sha256="0" * 64)
    ring(runtime, 5)
    assert "hashes to something else" in desk.problem()["message"]


@pytest.mark.usefixtures("listener")
def test_a_draining_worker_takes_none_until_it_may_again(desk: Desk, runtime: Runtime, water: bytes) -> None:
    desk.offer(1, file=water)
    ring(runtime, 1)
    assert desk.result()[0] == 1
    runtime.draining = True
    time.sleep(4 * errands.LOOK_S)
    desk.offer(2, file=water)
    ring(runtime, 2)
    time.sleep(2 * errands.LOOK_S)
    assert len(desk.paths("/claim")) == 1
    runtime.draining = False
    assert desk.result()[0] == 2


def test_a_broker_that_was_away_is_found_again(
    desk: Desk, forkserver: Forkserver, water: bytes, tmp_path: Path
) -> None:
    port = find_free_port()
    command = [str(_redis_program()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    runtime = make_runtime(desk, forkserver, f"redis://127.0.0.1:{port}/0", tmp_path)
    with listening(runtime):  # before there is a broker at all
        for errand_id in (1, 2):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as broker:
                _wait_for_port(port)
                desk.offer(errand_id, file=water)
                ring(runtime, errand_id)
                assert desk.result()[0] == errand_id
                broker.kill()


def test_beside_gpus_errands_have_a_forkserver_of_their_own_without_one(runtime: Runtime, tmp_path: Path) -> None:
    assert runtime.errand_forkserver() is runtime.forkserver
    runtime.devices = [Device("GPU-1", Gpu(index=0, name="any", memory_bytes=1))]
    other = runtime.errand_forkserver()
    try:
        assert other is not runtime.forkserver
        assert runtime.errand_forkserver() is other
        child = other.spawn("tests.worker.victims:report_device", tmp_path, {}, threading.Event())
        assert child.wait(PATIENCE_S)
        assert (tmp_path / "log.txt").read_text().split() == ["cpu", "cpu", "''"]
    finally:
        other.close()
