"""A small copper-gold dataset labelled by EMT, and runs on it."""

import shutil

import numpy as np
import pytest
import torch

from tests.worker.engines.deepmd.deepmd_runs import make_config
from tests.worker.engines.runs import Runs
from worker.children import Forkserver
from worker.loop import StopSwitch
from worker.rundir import Manifest, ModelSpec, RunDir, RunSpec, write_json
from worker.trainer import train

SPEC = {"engine": "deepmd", "datasets": {"cu@1": "d" * 64}}


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """A `data/` directory with the dataset cu@1: two systems of unlike size, and one of a single frame."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, cells, frames in (("large", (2, 1, 1), 7), ("small", (1, 1, 1), 5), ("single", (1, 1, 1), 1)):
        atoms = bulk("Cu", cubic=True) * cells
        atoms.symbols[::3] = "Au"
        labels = {"coord": [], "box": [], "energy": [], "force": [], "virial": []}
        for _ in range(frames):
            frame = atoms.copy()
            frame.set_cell(frame.cell * (1 + 0.02 * rng.standard_normal()), scale_atoms=True)
            frame.rattle(0.1, rng=rng)
            frame.calc = EMT()
            labels["coord"].append(frame.positions.ravel())
            labels["box"].append(np.array(frame.cell).ravel())
            labels["energy"].append(frame.get_potential_energy())
            labels["force"].append(frame.get_forces().ravel())
            labels["virial"].append((-frame.get_volume() * frame.get_stress(voigt=False)).ravel())
        folder = root / "cu@1" / name / "set.000"
        folder.mkdir(parents=True)
        for key, values in labels.items():
            np.save(folder / f"{key}.npy", np.array(values))
        types = ["0" if symbol == "Cu" else "1" for symbol in atoms.get_chemical_symbols()]
        (folder.parent / "type.raw").write_text("\n".join(types))
        (folder.parent / "type_map.raw").write_text("Cu\nAu\n")
    return root


@pytest.fixture(scope="session")
def forkserver_once():
    started = {}

    def get(device="cpu"):
        if device not in started:
            started[device] = Forkserver(["worker.engines.deepmd.preload"], threads=1, environment={"DEVICE": device})
            started[device].start()
        return started[device]

    yield get
    for server in started.values():
        server.close()


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Where the trainer process computes; the test process computes on the CPU."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no GPU: that runs repeat on one is not shown here")
    return request.param


@pytest.fixture
def runs(tmp_path, data_root, forkserver_once):
    return Runs(tmp_path, data_root, forkserver_once, **SPEC)


@pytest.fixture(scope="session")
def session_runs(tmp_path_factory, data_root, forkserver_once):
    """Runs that several tests look at."""
    return Runs(tmp_path_factory.mktemp("runs"), data_root, forkserver_once, **SPEC)


@pytest.fixture(scope="session")
def straight(session_runs):
    """One uninterrupted se_e2_a run of 8 steps with checkpoints after 4 and 8."""
    return session_runs.train(make_config())


@pytest.fixture(scope="session")
def checkpoints(straight):
    """Two models: one training after 4 and after 8 steps."""
    return [next((straight.checkpoints / f"step-{step}").glob("*.pt")) for step in (4, 8)]


@pytest.fixture(scope="session")
def task_run(tmp_path_factory, data_root):
    """Make the run directory of a job that trains nothing; `resume_from` is a checkpoint directory of another run."""

    def make(kind, models, steps, *, config, seeds=None, resume_from=None):
        run = RunDir(tmp_path_factory.mktemp(kind))
        run.create()
        run.data.rmdir()
        run.data.symlink_to(data_root)
        specs = []
        for number, path in enumerate(models):
            shutil.copy(path, run.models / f"{number}{path.suffix}")
            specs.append(ModelSpec(name=f"job:1@{number}", file_name=f"{number}{path.suffix}", sha256="0" * 64))
        spec = {
            "kind": kind, "engine": "deepmd", "job_name": "d", "submitted": {}, "seed": 0, "seeds": seeds or {},
            "datasets": {"cu@1": "d" * 64}, "determinism": "strict", "checkpoints": {}, "file_stem": "d", "threads": 1,
            "total_steps": steps, "models": specs, "config": {"models": [], **config},
        }  # fmt: skip
        if resume_from is not None:
            run.resume.rmdir()
            run.resume.symlink_to(resume_from)
            spec["resume_step"] = Manifest.model_validate_json((resume_from / "manifest.json").read_bytes()).step
        write_json(run.spec, RunSpec.model_validate(spec))
        return run

    return make


@pytest.fixture(scope="session")
def task(task_run):
    """Do a job that trains nothing, in this process; return its result and its run directory."""

    def task(*arguments, stop=None, switch=StopSwitch, **options):
        run = task_run(*arguments, **options)
        if stop:
            run.stop.write_text(stop)
        return train(run, switch(run.stop)), run

    return task
