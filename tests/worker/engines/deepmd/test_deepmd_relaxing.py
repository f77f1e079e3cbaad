"""Jobs of kind relax: what cannot be a structure is named, and every bit of a relaxation repeats."""

import json

import ase.io
import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, LBFGS
from deepmd.calculator import DP

from app.engines.deepmd.relaxing import DEFAULTS
from app.wire.relaxing import RelaxReport
from tests.worker.engines.deepmd import model_files, models
from tests.worker.engines.runs import events_of, metrics_of
from worker.engines.deepmd import minima, repeats

pytestmark = [
    pytest.mark.deepmd,
    pytest.mark.filterwarnings("ignore:`torch.jit"),  # DeePMD-kit's own way to freeze and to run what it froze
]

OVERLAPPING = {
    "name": "H2O3", "symbols": ["O", "H", "H", "O", "O"],
    "positions": [[0, 0, 0], [0.9, 0.3, 0], [0.9, 0.3, 0.34], [2.5, 0, 0], [0, 3, 0]],
}  # fmt: skip
"""As in DeePMD-kit's issue 4502: two hydrogens 0.34 Å apart."""


def copper(**changes):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.12, seed=3)
    return {
        "name": "cell", "symbols": list(atoms.symbols), "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(), **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def dpa2(tmp_path_factory):
    """A checkpoint of a DPA-2 of water, of random weights: its bits are looked at, not its physics."""
    document = models.config("dpa2", ["O", "H"])
    wrapper = models.stir(models.build(document), document)
    wrapper.model_params = document["model"]
    wrapper.model["Default"].min_nbor_dist = torch.tensor(0.9, dtype=torch.float64)
    return model_files.save(model_files.checkpoint_of(wrapper, step=4), tmp_path_factory.mktemp("dpa2") / "water.pt")


@pytest.fixture(scope="module")
def relax(task):
    """Relax structures; return the run directory and its report."""

    def relax(models, *structures, **options):
        config = {**DEFAULTS, "structures": [], "inline": list(structures), **options}
        seeds = {"starts": 5} if config["starts"] > 1 else {}
        result, run = task("relax", models, 0, config=config, seeds=seeds)
        assert result.outcome == "completed", result
        report = RelaxReport.model_validate_json((run.files / "relax.json").read_text())
        assert result.step == len(metrics_of(run))
        return run, report

    return relax


def test_the_overlap_of_issue_4502_is_refused_with_its_pair_and_distance(task, dpa2):
    config = {**DEFAULTS, "structures": [], "inline": [OVERLAPPING]}
    result, run = task("relax", [dpa2], 0, config=config)
    assert (result.outcome, result.cause.failure, result.step) == ("failed", "data", 0)
    assert "atoms 1 (H) and 2 (H) are 0.340 Å apart" in result.cause.message
    assert "counted from 0" in result.cause.hint
    assert list(run.files.iterdir()) == []


@pytest.mark.long(on="frozen-4")  # what the frozen form changes is told by a test of its own
@pytest.mark.parametrize(("form", "times"), [("checkpoint", 20), ("frozen", 4)])
def test_the_overlap_of_issue_4502_relaxes_identically_every_time(relax, dpa2, form, times):
    options = {"on_unphysical": "warn", "max_steps": 3, "form": form}
    run, report = relax([dpa2], OVERLAPPING, repeat=times, **options)
    assert [one.identical for one in report.repeats] == [True] * (times - 1)
    assert report.repeats[-1].how == "in a fresh process"
    assert {one.frames for one in report.repeats} == {report.runs[0].frames} == {4}
    overlap = next(one for one in report.structures[0].findings if one.code == "atoms-overlap")
    assert (overlap.atoms, overlap.elements, overlap.distance) == ([1, 2], ["H", "H"], pytest.approx(0.34))
    assert "nearer than any two atoms of the training data" in run.events.read_text()
    _, other = relax([dpa2], OVERLAPPING, **options)
    assert other.runs[0].digest == report.runs[0].digest


@pytest.mark.long(
    on="threads"
)  # two threads take very long where other tests run; a process of its own is shown by form
@pytest.mark.parametrize("compared", ["threads", "form"])
def test_what_threads_and_the_frozen_form_change_is_told(relax, checkpoints, compared):
    _, report = relax(checkpoints[1:], copper(), max_steps=2, compare=[compared])
    [told] = report.repeats
    assert told.how == {"threads": "with 2 threads in place of 1", "form": "from the frozen model (.pth)"}[compared]
    assert told.positions < 1e-6
    assert told.forces < 1e-6


@pytest.mark.parametrize(("name", "optimizer", "cell"), [("LBFGS", LBFGS, "fixed"), ("BFGS", BFGS, "filter")])
def test_it_ends_where_ase_driven_by_hand_ends(relax, checkpoints, name, optimizer, cell):
    options = {"optimizer": name, "cell": cell, "pressure": 1.0 if cell == "filter" else 0.0}
    run, report = relax(checkpoints[1:], copper(fixed=[0]), fmax=0.02, max_steps=40, **options)
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.12, seed=3)
    atoms.set_constraint(FixAtoms([0]))
    atoms.calc = DP(model=str(checkpoints[1]))
    target = FrechetCellFilter(atoms, scalar_pressure=units.GPa) if cell == "filter" else atoms
    by_hand = optimizer(target, logfile=None)
    converged = by_hand.run(fmax=0.02, steps=40)
    row = report.runs[0]
    assert converged, "a minimum, and not just the same way"
    assert (row.outcome, row.steps) == ("converged", by_hand.nsteps)
    final = ase.io.read(run.files / "trajectory.traj")
    assert np.allclose(final.positions, atoms.positions, rtol=0, atol=1e-9)
    assert np.allclose(final.cell, atoms.cell, rtol=0, atol=1e-9)
    assert row.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert len(ase.io.read(run.files / "trajectory.extxyz", ":")) == row.frames
    assert len(ase.io.read(run.files / "relaxed.extxyz", ":")) == 1
    assert metrics_of(run)[row.frames]["relax/fmax"] == row.fmax


def test_starts_are_displaced_by_the_seed_and_their_minima_ranked(relax, checkpoints):
    _, report = relax(checkpoints[1:], copper(), starts=3, sigma=0.02, max_steps=60, fmax=0.05)
    assert [one.name for one in report.runs] == ["cell.1", "cell.2", "cell.3"]
    assert len({one.digest for one in report.runs}) == 3
    _, again = relax(checkpoints[1:], copper(), starts=3, sigma=0.02, max_steps=60, fmax=0.05)
    assert [one.digest for one in again.runs] == [one.digest for one in report.runs]
    ended = [one.name for one in report.runs if one.outcome == "converged"]
    assert sorted(name for one in report.minima for name in one.runs) == ended
    assert [one.rank for one in report.minima] == list(range(1, len(report.minima) + 1))


def test_a_minimum_is_the_same_however_atoms_are_numbered_and_turned():
    rng = np.random.default_rng(0)
    one = bulk("Cu", cubic=True)
    one.symbols[0] = "Au"
    one.rattle(0.1, seed=1)
    other = one[rng.permutation(len(one))]
    other.rotate(37, (1, 2, 3), rotate_cell=True)
    other.positions += 1.3
    farther = one.copy()
    farther.rattle(0.3, seed=2)
    ends = [minima.End(name, "m", "AuCu3", atoms, -1.0) for name, atoms in (("a", one), ("b", other), ("c", farther))]
    assert [found.runs for found in minima.ranked(ends)] == [["a", "b"], ["c"]]


def test_a_job_can_be_cancelled_between_frames(task, checkpoints):
    config = {**DEFAULTS, "structures": [], "inline": [copper()]}
    result, run = task("relax", checkpoints[:1], 0, config=config, stop="now")
    assert (result.outcome, list(run.files.iterdir())) == ("stopped", [])


def test_structures_are_read_from_the_datasets_that_the_config_names(task, checkpoints, data_root, monkeypatch):
    monkeypatch.setattr("worker.engines.deepmd.relaxing.MOST_WARNED", 1)
    folder = data_root / "cells@1"
    folder.mkdir()
    (folder / "structures.json").write_text(json.dumps({"structures": [copper(name="a"), copper(name="b")]}))
    far = {"name": "far", "symbols": ["Cu", "Cu"], "positions": [[0, 0, 0], [0, 0, 30]]}
    config = {**DEFAULTS, "structures": ["dataset:cells@1/b"], "inline": [copper(), far], "max_steps": 0}
    result, run = task("relax", checkpoints[:1], 0, config=config)
    assert result.outcome == "completed", result
    report = RelaxReport.model_validate_json((run.files / "relax.json").read_text())
    assert [one.structure for one in report.runs] == ["dataset:cells@1/b", "cell", "far"]
    assert metrics_of(run)[2]["relax/energy_per_atom/cell"] == report.runs[1].energy_per_atom
    first, more = [one["message"] for one in events_of(run, "warning")]
    assert "atom 0 (Cu) has no other atom" in first
    assert more == "1 more: all findings are in relax.json when it is written."
    assert [len(one.findings) for one in report.structures] == [0, 0, 2]


def test_each_time_has_its_number_whether_it_was_asked_for_or_only_compares():
    config = {"repeat": 3, "form": "checkpoint", "compare": ["threads", "form"]}
    assert [(one.time, one.fresh) for one in repeats.planned(config, 1)] == [
        (2, None), (3, ("checkpoint", 1)), (4, ("checkpoint", 2)), (5, ("frozen", 1)),
    ]  # fmt: skip
