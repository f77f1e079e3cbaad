"""Checking and submitting what starts from a base, and searching many jobs: times beside what they should be.

`python -m bench.starting [--database sqlite|postgresql|both] [--jobs N]`. Needs DeePMD-kit: the lists of tensors are real.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from sqlalchemy import Connection, insert, text
from sqlalchemy.orm import Session

from app.db import make_engine
from app.engines.deepmd import ENGINE
from app.jobs import leaves, planning
from app.tables import BaseModel, Blob, Dataset, Errand, Job, JobLeaf
from app.tables.base import now
from app.wire.datasets import DatasetSummary, SystemSummary
from app.wire.models import BaseFacts, BranchFacts, Inventory
from app.wire.resolution import Resolution
from bench.serving import Served, served
from bench.storage import line

MODELS: dict[str, dict[str, Any]] = {
    "se_e2_a": {"type": "se_e2_a", "rcut": 6.0, "rcut_smth": 0.5, "sel": [46, 92], "neuron": [25, 50, 100]},
    "dpa2": {
        "type": "dpa2",
        "repinit": {"nsel": 120, "rcut": 6.0, "rcut_smth": 0.5},
        "repformer": {"nsel": 48, "rcut": 4.0, "rcut_smth": 0.5, "nlayers": 12},
    },
}  # fmt: skip
SEARCHES = (
    "descriptor.rcut > 6",
    "model.descriptor.type = dpa2",
    "explicit:descriptor.rcut > 9.98",
    "explicit:rcut_smth",
)
TIMES = 15
TASKS = 2
"""Of a multi-task training."""


def main() -> None:
    """Run and print one table per database."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--jobs", type=int, default=10_000)
    options = parser.parse_args()
    for kind in ["sqlite", "postgresql"] if options.database == "both" else [options.database]:
        with served(kind) as server, server.person() as client:
            print(f"\n{kind:46}{'measured':>14}{'wanted':>12}{'ratio':>8}")
            _seed_data(server)
            for name, descriptor in MODELS.items():
                measure_checks(server, client, name, descriptor)
            _measure({f"check {TASKS} tasks on a dpa2": lambda: _post(client, "configs/resolve", _tasks())}, server)
            measure_searches(server, client, options.jobs)


def _config(descriptor: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": {"type_map": ["O", "H"], "descriptor": dict(descriptor), "fitting_net": {"neuron": [240, 240, 240]}},
        "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-6},
        "loss": {"type": "ener"},
        "training": {"training_data": {"systems": ["dataset:water"]}, "numb_steps": 1000},
    }


def _tasks() -> dict[str, Any]:
    single = _config(MODELS["dpa2"])
    model, names = single.pop("model"), [f"task_{number}" for number in range(TASKS)]
    branch = {"type_map": "types", "descriptor": "dpa2", "fitting_net": model["fitting_net"]}
    single["model"] = {
        "shared_dict": {"types": model["type_map"], "dpa2": model["descriptor"]},
        "model_dict": dict.fromkeys(names, branch),
    }
    single["loss_dict"] = dict.fromkeys(names, single.pop("loss"))
    data = {"training_data": single["training"].pop("training_data")}
    single["training"] |= {"data_dict": dict.fromkeys(names, data), "model_prob": dict.fromkeys(names, 1.0)}
    return {"config": single, "seed": 1}


def _seed_data(server: Served) -> None:
    systems = [
        SystemSummary(
            name=f"{number}K", atoms=192, frames=100, elements={"O": 64, "H": 128}, type_map=["O", "H"],
            labels=["energy", "force"],
        )
        for number in range(40)
    ]  # fmt: skip
    summary = DatasetSummary(systems=systems, frames=4000, atoms=768_000, elements=["O", "H"], type_map=["O", "H"])
    _store(
        server,
        Blob(sha256="d" * 64, md5="d" * 32, size=1),
        Dataset(
            name="water", version=1, engine="deepmd", digest="d" * 64, blob_sha256="d" * 64, size=1, source="bench",
            summary=summary.model_dump(mode="json"),
        ),
    )  # fmt: skip


def measure_checks(server: Served, client: httpx.Client, name: str, descriptor: Mapping[str, Any]) -> None:
    """Check a training from scratch, then from a base of the same model whose tensors are listed, then submit it."""
    scratch = {"config": _config(descriptor), "seed": 1}
    answer = client.post("/api/v1/configs/resolve", json=scratch)
    assert answer.status_code == 200, answer.text
    found = Resolution.model_validate(answer.json())
    tensors = _seed_base(server, name, found)
    config = _config(descriptor)
    del config["model"]
    tuned = {"config": config, "start": {"mode": "finetune", "base": name}}
    calls: dict[str, Callable[[], Any]] = {
        f"check {name} from scratch": lambda: _post(client, "configs/resolve", scratch),
        f"check {name} from a base, {tensors} tensors": lambda: _post(client, "configs/resolve", tuned),
        f"submit {name} from a base, {tensors} tensors": lambda: _post(client, "jobs", tuned),
    }
    _measure(calls, server)


def _measure(calls: Mapping[str, Callable[[], Any]], server: Served) -> None:
    for title, call in calls.items():
        before = server.cpu_s()
        line(title, _median_ms(call), "ms", 150)
        line("  processor time of the server", (server.cpu_s() - before) * 1000 / (TIMES + 1), "ms")


def _seed_base(server: Served, name: str, found: Resolution) -> int:
    """Store a base model and the list of tensors of a resolved config's model; return how many these are."""
    from worker.engines.deepmd.errands import inventory

    wanted = planning.listing(ENGINE, found)
    listed = inventory(wanted.order)
    known = [tensor.model_copy(update={"sha256": "0" * 64}) for tensor in listed.tensors]
    facts = BaseFacts(
        engine="deepmd",
        form="bench",
        architecture=name,
        branches=[BranchFacts(name="", type_map=["O", "H"], model=found.config["model"], parameters=1)],
        tensors=known,
        parameters=1,
        step=1000,
    )
    sha256 = f"{len(name):064x}"
    _store(
        server,
        Blob(sha256=sha256, md5="b" * 32, size=1),
        BaseModel(
            name=name, version=1, engine="deepmd", state="ready", blob_sha256=sha256, size=1, file_name="b.pt",
            source="bench", facts=facts.model_dump(mode="json"), architecture=name, parameters=1,
        ),
        _listed(wanted, listed),
    )  # fmt: skip
    return len(known)


def _listed(wanted: planning.Listing, listed: Inventory) -> Errand:
    return Errand(
        kind="inventory", key=wanted.key, engine="deepmd", state="done", order=wanted.order, ended_at=now(),
        result=listed.model_dump(mode="json"),
    )  # fmt: skip


def _store(server: Served, *rows: Any) -> None:
    engine = make_engine(server.database_url)
    with Session(engine) as session:
        for row in rows:
            # The check from scratch has ordered this list; nobody has made it.
            if isinstance(row, Errand) and (old := session.query(Errand).filter_by(key=row.key).one_or_none()):
                old.state, old.result, old.ended_at = row.state, row.result, row.ended_at
            else:
                session.add(row)
            session.flush()
        session.commit()
    engine.dispose()


def measure_searches(server: Served, client: httpx.Client, jobs: int) -> None:
    """Search many jobs, each with the leaves of a real config and a cutoff of its own."""
    configs = [
        Resolution.model_validate(_post(client, "configs/resolve", {"config": _config(model), "seed": 1}))
        for model in MODELS.values()
    ]
    engine = make_engine(server.database_url)
    with engine.begin() as connection:
        for first in range(0, jobs, 500):
            _seed_jobs(connection, configs, range(first, min(jobs, first + 500)))
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
        count = connection.execute(text("SELECT count(*) FROM job_leaves")).scalar_one()
    engine.dispose()
    for expression in SEARCHES:
        name = f"{expression}: {jobs:,} jobs, {count / 1e6:.1f}M leaves"
        line(name[:60], _median_ms(lambda e=expression: _search(client, e)), "ms", 100)


def _seed_jobs(connection: Connection, configs: list[Resolution], numbers: range) -> None:
    ids = [1000 + number for number in numbers]
    jobs, rows = [], []
    for job_id in ids:
        found = configs[job_id % 10 == 0]
        cutoff = 4 + job_id % 600 / 100
        at = next(at for at in ("/model/descriptor/rcut", "/model/descriptor/repinit/rcut") if at in found.origins)
        jobs.append(_JOB | {"id": job_id})
        listed = leaves.rows(job_id, found.config, found.origins)
        rows += [row | ({"number": cutoff, "text": str(cutoff)} if row["pointer"] == at else {}) for row in listed]
    connection.execute(insert(Job), jobs)
    connection.execute(insert(JobLeaf), rows)


_JOB: dict[str, Any] = {
    "name": "many",
    "kind": "train",
    "engine": "deepmd",
    "state": "completed",
    "submitted": {},
    "resolved": {},
    "origins": {},
    "digest": "0" * 64,
    "seed": 1,
    "seeds": {},
    "determinism": "fast",
    "file_stem": "many",
    "checkpoint_policy": {},
    "total_steps": 1000,
}


def _search(client: httpx.Client, expression: str) -> None:
    answer = client.get("/api/v1/jobs", params={"where": expression})
    assert answer.status_code == 200, answer.text


def _post(client: httpx.Client, path: str, body: Mapping[str, Any]) -> Any:
    answer = client.post(f"/api/v1/{path}", json=body)
    assert answer.is_success, answer.text
    return answer.json()


def _median_ms(call: Callable[[], Any]) -> float:
    call()
    times = []
    for _ in range(TIMES):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


if __name__ == "__main__":
    main()
