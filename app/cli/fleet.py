"""`cairn workers`: who trains, how busy they are, and which take no more work."""

from collections.abc import Sequence

from rich.markup import escape

from app.cli.api import Api, connect, view
from app.cli.failures import Failure, usage
from app.cli.screen import ago, out, print_json, size, table
from app.wire.system import WorkerView


def list_workers(*, as_json: bool) -> None:
    """Print the workers, those that are alive first."""
    with connect() as api:
        found = _all(api)
    if as_json:
        print_json([worker.model_dump(mode="json") for worker in found])
        return
    if not found:
        out().print("No worker has reported. `cairn up` starts one on this machine.")
        return
    rows = table("name", "state", "busy", "jobs", "gpus", "last seen", right=("busy",))
    for worker in sorted(found, key=lambda worker: not worker.alive):
        busy = f"{worker.busy_slots if worker.alive else 0}/{worker.slots}"
        jobs, gpus = ", ".join(map(str, worker.jobs)), "\n".join(_gpu_words(worker)) or "CPU only"
        rows.add_row(escape(worker.name), state_of(worker), busy, jobs, escape(gpus), ago(worker.last_seen_at))
    out().print(rows)


def state_of(worker: WorkerView) -> str:
    """Return whether a worker is alive and takes work, in a word."""
    if worker.stopped:
        return "[dim]stopped[/]"
    if not worker.alive:
        return "[red]silent[/]"
    return "[yellow]draining[/]" if worker.drain else "[green]alive[/]"


def _gpu_words(worker: WorkerView) -> Sequence[str]:
    return [_one_gpu(gpu) for gpu in worker.gpus]


def _one_gpu(gpu: dict[str, object]) -> str:
    words = [str(gpu.get("name", "GPU"))]
    used, total, busy = gpu.get("memory_used_bytes"), gpu.get("memory_bytes"), gpu.get("utilisation")
    if isinstance(busy, int):
        words.append(f"{busy} %")
    if isinstance(used, int) and isinstance(total, int):
        words.append(f"{size(used)} of {size(total)}")
    return ", ".join(words)


def set_drain(drain: str | None, undrain: str | None, *, as_json: bool) -> None:
    """Let one worker take no more work, or take work again."""
    if drain is not None and undrain is not None:
        raise usage("--drain and --undrain exclude each other.", hint="Give one of them.")
    name = drain if drain is not None else undrain
    with connect() as api:
        worker = _named(_all(api), name or "")
        found = api.post(f"/workers/{worker.id}/drain", json={"drain": drain is not None})
    if as_json:
        print_json(found)
        return
    words = "takes no more work; what it has goes on" if drain is not None else "takes work again"
    out().print(f"{escape(worker.name)} {words}.")


def _all(api: Api) -> list[WorkerView]:
    return [view(WorkerView, item) for item in api.get("/workers")]


def _named(workers: Sequence[WorkerView], name: str) -> WorkerView:
    """Return the worker of that name or id that was heard of last. Raises Failure."""
    for worker in workers:
        if name in (worker.name, worker.id):
            return worker
    known = ", ".join(worker.name for worker in workers if worker.alive) or "none is alive"
    raise Failure(f"There is no worker {name}.", code="not-found", hint=f"Workers: {known}.")
