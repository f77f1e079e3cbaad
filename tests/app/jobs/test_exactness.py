"""When a job is exact, and every reason why one is not."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from app.db import transaction
from app.jobs.exactness import Execution, History, exactness
from app.tables import Job
from tests.app.simulated import SimulatedWorker

ENVIRONMENT: dict[str, Any] = {
    "host": "one",
    "platform": "Linux-6.1-x86_64-with-glibc2.36",
    "python": "3.12.1",
    "cpu": {"model": "Intel Xeon 8358", "usable": 4, "vector": ["avx2", "fma"]},
    "memory_bytes": 1,
    "gpus": [],
    "libraries": {"torch": "2.11.0", "deepmd-kit": "3.2.0"},
    "torch": {"threads": 4, "interop_threads": 4, "cudnn": None},
    "determinism": {"level": "strict", "threads": 4, "deterministic_algorithms": True},
    "variables": {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "0"},
    "code": "abc",
}
H200 = {"name": "NVIDIA H200", "uuid": "u1", "capability": "9.0", "driver": "550", "memory_bytes": 9}
AUDIT = "Initial weights of 2 components checked: 2 decided by their own seeds alone."


def ran_on(**changes: Any) -> dict[str, Any]:
    """Return an environment with changes, `cpu__model` in a section."""
    environment = copy.deepcopy(ENVIRONMENT)
    for place, value in changes.items():
        *sections, key = place.split("__")
        section = environment
        for name in sections:
            section = section[name]
        section[key] = value
    return environment


def execution(number: int, start_step: int, begin: str | None = "checkpoint", **changes: Any) -> Execution:
    return Execution(f"execution {number}", start_step, begin, ran_on(**changes))  # type: ignore[arg-type]


ONE = History("strict", 0, True, AUDIT, [execution(1, 0, "scratch")], {})


def two(level: str = "strict", **changes: Any) -> History:
    executions = [execution(1, 0, "scratch"), execution(2, 400, **changes)]
    return replace(ONE, level=level, executions=executions)  # type: ignore[arg-type]


def seeded(**changes: Any) -> History:
    loose = {"determinism__level": "seeded", "determinism__deterministic_algorithms": False} | changes
    return replace(ONE, level="seeded", executions=[execution(1, 0, "scratch", **loose)])


def test_before_its_first_execution_nothing_is_known() -> None:
    assert exactness(replace(ONE, executions=[])) is None


def test_one_strict_execution_can_be_repeated() -> None:
    found = exactness(ONE)
    assert found is not None
    assert (found.exact, found.reasons) == (True, [])
    assert found.proof == [
        "only deterministic algorithms were allowed (level strict; Intel Xeon 8358, 4 threads)",
        "it ran in one execution, so that there was nothing to restore: exact means that it can be repeated",
        AUDIT.removesuffix("."),
    ]


def test_an_execution_that_went_on_elsewhere_of_the_same_kind_is_exact() -> None:
    moved = two(
        host="two", memory_bytes=2, cpu__usable=64, torch__interop_threads=9, variables__CUDA_VISIBLE_DEVICES="3",
        platform="Linux-5.4-x86_64-with-glibc2.36",
    )  # fmt: skip
    found = exactness(moved)
    assert found is not None
    assert (found.exact, found.reasons) == (True, [])
    assert found.proof[1].endswith("whose SHA-256 was verified (steps 400)")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cpu__model": "AMD EPYC 7763"}, "execution 2 ran on AMD EPYC 7763, execution 1 on Intel Xeon 8358"),
        ({"torch__threads": 8}, "execution 2 ran with threads 8, execution 1 with 4"),
        ({"libraries__torch": "2.12.0"}, "execution 2 ran with torch 2.12.0, execution 1 with 2.11.0"),
        ({"variables__MKL_CBWR": "AVX2"}, "execution 2 ran with MKL_CBWR AVX2, execution 1 with none"),
        ({"code": "def"}, "execution 2 ran with code version def, execution 1 with abc"),
        (
            {"platform": "Linux-6.1-x86_64-with-glibc2.31"},
            "execution 2 ran with the C library glibc2.31, execution 1 with glibc2.36",
        ),
    ],
)
def test_what_can_change_bits_is_named_with_both_values(changes: dict[str, Any], reason: str) -> None:
    found = exactness(two(**changes))
    assert found is not None
    assert (found.exact, found.reasons, found.proof) == (False, [reason], [])


def test_another_gpu_is_named() -> None:
    executions = [
        execution(1, 0, "scratch", gpus=[H200]),
        execution(2, 5, gpus=[H200 | {"name": "NVIDIA A100", "uuid": "u2"}]),
        execution(3, 9, gpus=[]),
    ]
    found = exactness(replace(ONE, executions=executions))
    assert found is not None
    assert found.reasons[0] == "execution 2 ran on NVIDIA A100, execution 1 on NVIDIA H200"
    assert "execution 3 ran on no such device, execution 2 on NVIDIA A100" in found.reasons


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        (replace(ONE, level="fast"), "the determinism level is fast"),
        (seeded(), "execution 1 ran on 4 threads at level seeded"),
        (seeded(gpus=[H200]), "execution 1 ran on NVIDIA H200 at level seeded"),
        (two(determinism={}), "execution 2 ran without a record that only deterministic algorithms were allowed"),
        (replace(ONE, audit=None), "no seed audit is recorded"),
        (two(begin=None), "execution 2 went on from step 400, and it is not recorded from what"),
        (two(begin="weights"), "execution 2 went on from step 400 without the state of the random generators"),
        (
            replace(ONE, executions=[Execution("execution 1", 0, "scratch", None)]),
            "it is not recorded what execution 1",
        ),
        (replace(ONE, verdicts={9: "diverged"}), "job 9 ran the same from its frozen spec: not identical"),
    ],
)
def test_each_reason_is_one_sentence(history: History, reason: str) -> None:
    found = exactness(history)
    assert found is not None
    assert not found.exact
    assert found.reasons[0].startswith(reason)


def test_one_thread_has_one_order_at_level_seeded() -> None:
    found = exactness(seeded(torch__threads=1))
    assert found is not None
    assert found.exact
    assert found.proof[0] == "one thread on Intel Xeon 8358 computes in one order (level seeded)"


def test_several_ranks_are_named_and_their_number_is_part_of_what_it_ran_on() -> None:
    pair = execution(1, 0, "scratch", ranks={"count": 2, "backend": "gloo"})
    found = exactness(replace(ONE, executions=[pair]))
    assert found is not None
    assert found.proof[:2] == [
        "only deterministic algorithms were allowed (level strict; Intel Xeon 8358, 4 threads each of 2 ranks)",
        "the weights of all 2 ranks were compared at the start and at every checkpoint (sums by gloo)",
    ]
    other = exactness(replace(ONE, executions=[pair, execution(2, 400, "checkpoint")]))
    assert other is not None
    assert other.reasons[0] == "execution 2 ran with ranks none, execution 1 with 2"


def test_executions_of_which_nothing_is_left_do_not_count() -> None:
    lost = Execution("execution 2", 400, "checkpoint", None)
    elsewhere = execution(3, 400, cpu__model="AMD EPYC 7763")
    found = exactness(replace(ONE, executions=[execution(1, 0, "scratch"), lost, elsewhere, execution(4, 400)]))
    assert found is not None
    assert found.exact


def test_a_resumed_base_is_where_the_job_begins() -> None:
    executions = [execution(1, 1000, "weights"), execution(2, 1400)]
    found = exactness(replace(ONE, start_step=1000, draws_weights=False, audit=None, executions=executions))
    assert found is not None
    assert found.exact
    assert found.proof[-1] == "no weights were drawn: it resumes step 1000 of its base"


def test_an_identical_reproduction_shows_what_could_not_be_derived() -> None:
    found = exactness(replace(seeded(), verdicts={9: "identical"}))
    assert found is not None
    assert (found.exact, found.proof) == (True, ["job 9 ran the same from its frozen spec: identical"])
    both = exactness(replace(seeded(), verdicts={9: "identical", 10: "diverged"}))
    assert both is not None
    assert not both.exact
    undecided = exactness(replace(seeded(), verdicts={9: "identical-so-far"}))
    assert undecided is not None
    assert not undecided.exact


def test_a_job_shows_its_exactness(app, client: TestClient, submit, worker: SimulatedWorker) -> None:
    job_id = submit(determinism="strict")["id"]

    def shown() -> dict[str, Any] | None:
        found: dict[str, Any] | None = client.get(f"/api/v1/jobs/{job_id}").json()["exactness"]
        return found

    assert shown() is None
    first = worker.claim(job_id)
    first.environment(ENVIRONMENT)
    first.events({"seq": 0, "kind": "audit", "message": AUDIT})
    first.checkpoint(200)
    assert shown()["exact"]
    first.end("interrupted", 250)
    second = worker.claim(job_id, 2)
    second.environment(ran_on(cpu__model="AMD EPYC 7763"))
    assert shown()["reasons"] == ["execution 2 ran on AMD EPYC 7763, execution 1 on Intel Xeon 8358"]
    second.end("completed", 1000)
    again = client.post(f"/api/v1/jobs/{job_id}/reproduce").json()["id"]
    with transaction(app.state.sessions) as session:
        session.execute(update(Job).where(Job.id == again).values(reproduction="identical"))
    assert shown()["proof"] == [f"job {again} ran the same from its frozen spec: identical"]
