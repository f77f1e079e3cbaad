"""What repeatability costs: steps at level strict against seeded, and the seed audit of a DPA-2.

`python -m bench.determinism [--steps N]`. One trainer changes its level from step to step, so that both levels meet the same
machine; of the steps the median counts. Times are processor time on one core.
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from contextlib import redirect_stdout
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from app.wire.submission import Determinism
from bench.trainer import SIZES, make_config, write_data
from worker.rundir import RunDir, RunSpec, write_json

GOAL_STRICT, GOAL_AUDIT_S = 1.02, 1.0
_WARM_UP = 8
"""Steps that do not count."""

DPA2: dict[str, Any] = {
    "type": "dpa2", "seed": 1,
    "repinit": {
        "tebd_dim": 8, "rcut": 6.0, "rcut_smth": 0.5, "nsel": 120, "neuron": [25, 50, 100], "axis_neuron": 12,
    },
    "repformer": {
        "rcut": 4.0, "rcut_smth": 3.5, "nsel": 40, "nlayers": 6, "g1_dim": 128, "g2_dim": 32, "attn2_hidden": 32,
        "attn2_nhead": 4, "attn1_hidden": 128, "attn1_nhead": 4, "axis_neuron": 4,
    },
}  # fmt: skip


def main() -> None:
    """Measure both and print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=150, help="Steps at each level.")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which is below
    print(f"{'':38}{'strict':>10}{'seeded':>10}{'ratio':>8}{'goal':>8}")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as directory:
            spent = step_cost(Path(directory), size, options.steps)
        strict, seeded = (statistics.median(spent[level]) for level in ("strict", "seeded"))
        print(
            f"{f'ms/step, {size}':38}{1000 * strict:10.2f}{1000 * seeded:10.2f}{strict / seeded:8.3f}{GOAL_STRICT:8.2f}"
        )
    for tasks in (1, 20):
        seconds = statistics.median(audit_cost(tasks) for _ in range(3))
        name = f"audit, DPA-2, {tasks} task{'s' * (tasks > 1)}, s"
        print(f"{name:38}{seconds:10.2f}{'':10}{seconds / GOAL_AUDIT_S:8.3f}{GOAL_AUDIT_S:8.2f}")


def step_cost(root: Path, size: str, steps: int) -> dict[str, list[float]]:
    """Return the processor time (s) of so many steps at each level."""
    from worker import determinism
    from worker.context import RunContext
    from worker.engines.deepmd.trainer import DeepmdTrainer

    write_data(root / "data" / "cu@1", SIZES[size]["cells"])
    run = RunDir(root / "run")
    run.create()
    run.data.rmdir()
    run.data.symlink_to(root / "data")
    config = make_config(argparse.Namespace(steps=10**6, size=size, validate=False), "dataset:cu@1")
    spec = {
        "engine": "deepmd", "job_name": size, "config": config, "submitted": config, "datasets": {"cu@1": "0" * 64},
        "seed": 1, "seeds": {}, "determinism": "strict", "total_steps": 10**6, "start": {"mode": "scratch"},
        "checkpoints": {}, "file_stem": size, "threads": 1,
    }  # fmt: skip
    write_json(run.spec, RunSpec.model_validate(spec))
    with redirect_stdout(io.StringIO()):
        trainer = DeepmdTrainer(run.read_spec(), RunContext(run))
    spent: dict[str, list[float]] = {"strict": [], "seeded": []}
    # Who goes first changes, so that nothing that comes every second step harms one of them alone.
    levels: tuple[Determinism, ...] = ("strict", "seeded", "seeded", "strict")
    for step in range(1, 2 * steps + _WARM_UP + 1):
        level = levels[step % len(levels)]
        determinism.apply(level, 1)
        started = time.process_time()
        trainer.train_step(step)
        if step > _WARM_UP:
            spent[level].append(time.process_time() - started)
    return spent


def audit_cost(tasks: int) -> float:
    """Return the processor time (s) of the seed audit of a DPA-2 that so many tasks share."""
    from deepmd.pt.train.training import get_model_for_wrapper
    from deepmd.pt.train.wrapper import ModelWrapper
    from deepmd.pt.utils.multi_task import preprocess_shared_params

    from app.engines.deepmd.schema import tree
    from worker.engines.deepmd import audit
    from worker.engines.deepmd.config import DeepmdConfig

    names = [f"task{index}" for index in range(tasks)]
    written = {
        "shared_dict": {"types": ["Cu", "Au"], "descriptor": DPA2},
        "model_dict": {
            name: {
                "type_map": "types", "descriptor": "descriptor",
                "fitting_net": {"neuron": [240, 240, 240], "seed": seed},
            }
            for seed, name in enumerate(names)
        },
    }  # fmt: skip
    section, links = preprocess_shared_params(deepcopy(written))
    complete = tree(multi_task=False).sub_fields["model"].normalize_value
    section["model_dict"] = {name: complete(model) for name, model in section["model_dict"].items()}
    wrapper = ModelWrapper(get_model_for_wrapper(deepcopy(section)))
    with redirect_stdout(io.StringIO()):
        wrapper.share_params(links, dict.fromkeys(names, 1.0), resume=True)
    trainer: Any = SimpleNamespace(multi_task=True, model=wrapper.model)
    started = time.process_time()
    found = audit.check(trainer, DeepmdConfig({"model": section}, True, links), written, None)
    spent = time.process_time() - started
    assert {one.verdict for one in found.values()} == {"own-seed"}
    return spent


if __name__ == "__main__":
    main()
