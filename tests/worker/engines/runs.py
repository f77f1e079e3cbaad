"""Runs of any engine's trainer, and what to read from a run directory."""

import json
import threading

import pyarrow as pa

from worker.loop import StopSwitch
from worker.ranks import ALONE
from worker.rundir import Manifest, Result, RunDir, RunSpec, write_json
from worker.trainer import train


class Runs:
    """Makes run directories below a temporary directory, and trains in this process or in a forked one."""

    def __init__(self, root, data_root, forkserver, **spec):
        """`spec` is what all runs have: engine and datasets."""
        self._root, self._data_root, self._forkserver, self._spec = root, data_root, forkserver, spec
        self._made = 0

    def make(self, config, *, resume_from=None, artifacts_from=None, **spec):
        """Write a run directory; `resume_from` is a checkpoint directory of another run."""
        self._made += 1
        run = RunDir(self._root / f"run{self._made}")
        run.create()
        run.data.rmdir()
        run.data.symlink_to(self._data_root)
        if resume_from is not None:
            run.resume.rmdir()
            run.resume.symlink_to(resume_from)
            spec["resume_step"] = Manifest.model_validate_json((resume_from / "manifest.json").read_bytes()).step
        if artifacts_from is not None:
            run.artifacts_in.rmdir()
            run.artifacts_in.symlink_to(artifacts_from.artifacts_out)
        given = {
            "job_name": "t", "submitted": {}, "seed": 1, "seeds": {}, "determinism": "strict", "start": {"mode": "scratch"},
            "checkpoints": {"every_steps": 4}, "file_stem": "t-s1", "threads": 1, "total_steps": 0, "config": config,
        }  # fmt: skip
        write_json(run.spec, RunSpec.model_validate({**given, **self._spec, **spec}))
        return run

    def train(self, config, *, device="cpu", **options):
        """Train, here or on a GPU in a process of its own, and return the run directory; fails unless it completes."""
        if device != "cpu":
            return self.finish(config, device=device, **options)
        return self.continue_(self.make(config, **options))

    def continue_(self, run):
        """Train what `make` made, here; fails unless it completes."""
        result = train(run, StopSwitch(run.stop))
        assert result.outcome == "completed", result
        return run

    def fail(self, run):
        """Train what `make` made, here, and return why it failed."""
        result = train(run, StopSwitch(run.stop))
        assert result.outcome == "failed", result
        return result.cause

    def start(self, run, *, entry="worker.trainer:main", device="cpu"):
        """Start the real trainer process and return it."""
        return self._forkserver(device).spawn(entry, run.root, {}, threading.Event())

    def finish(self, config, *, entry="worker.trainer:main", device="cpu", **options):
        """Train in a process of its own and return the run directory; fails unless it completes."""
        run = self.make(config, **options)
        assert self.start(run, entry=entry, device=device).wait(250), run.log.read_text()
        assert Result.model_validate_json(run.result.read_bytes()).outcome == "completed", run.log.read_text()
        return run


class Quiet:
    """A context that keeps nothing."""

    ranks = ALONE

    def __init__(self, root):
        self.root = root

    def phase(self, name):
        pass

    def heed_stop(self):
        pass

    def event(self, kind, message, data=None):
        pass

    def artifact(self, kind, key):
        return None

    def keep(self, kind, key, data):
        pass

    def keep_file(self, kind, key, path):
        pass


def metrics_of(run):
    """Return {step: {key: value}} of everything a run reported, wall-clock times left out."""
    rows = {}
    for path in sorted(run.metrics.glob("*.arrow")):
        with pa.OSFile(str(path)) as file:
            for row in pa.ipc.open_stream(file).read_all().to_pylist():
                step = row.pop("step")
                kept = {key: value for key, value in row.items() if value is not None and not key.startswith("perf/")}
                rows.setdefault(step, {}).update(kept)
    return rows


def manifest_of(run, step):
    return Manifest.model_validate_json((run.checkpoints / f"step-{step}" / "manifest.json").read_bytes())


def checkpoint_of(run, step):
    """Return the content of a checkpoint file."""
    import torch

    [path] = (run.checkpoints / f"step-{step}").glob("*.pt")
    return torch.load(path, map_location="cpu", weights_only=True)


def events_of(run, kind):
    lines = [json.loads(line) for line in run.events.read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def assert_repeats(run, reference, *, after=0, but=(), only=lambda key: True):
    """Compare all that two runs of equally many steps left after a step, bit for bit: every metric and every checkpoint.

    `but` are keys of Cairn's part of the checkpoints that may differ, `only` says which metrics both have.
    """
    assert _bits(run, only) == {step: row for step, row in _bits(reference, only).items() if step > after}
    steps = [step for step in _checkpoints(reference) if step > after]
    assert _checkpoints(run) == steps != []
    for step in steps:
        ours, theirs = checkpoint_of(run, step), checkpoint_of(reference, step)
        for key in but:
            del ours["cairn"][key], theirs["cairn"][key]
        assert_same(ours, theirs, f"step {step}")
        assert manifest_of(run, step).fingerprint == manifest_of(reference, step).fingerprint
        if "rng" not in but:
            assert manifest_of(run, step).generators == manifest_of(reference, step).generators


def _bits(run, only):
    rows = metrics_of(run).items()
    return {step: {key: value.hex() for key, value in row.items() if only(key)} for step, row in rows}


def _checkpoints(run):
    return sorted(int(path.parent.name.removeprefix("step-")) for path in run.checkpoints.glob("step-*/manifest.json"))


def newest_checkpoint(run):
    """Return the directory of the newest whole checkpoint, or None."""
    steps = _checkpoints(run)
    return run.checkpoints / f"step-{steps[-1]}" if steps else None


def assert_same(left, right, where="checkpoint"):
    """Compare two nested structures of tensors and plain values bit for bit, the metadata of the file aside."""
    import torch

    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{where}/{index}")
    elif isinstance(left, torch.Tensor):
        assert (left.dtype, left.shape) == (right.dtype, right.shape), where
        # Bytes: 0.0 equals -0.0, and NaN equals nothing.
        assert torch.equal(*(value.contiguous().reshape(-1).view(torch.uint8) for value in (left, right))), where
    else:
        assert left == right, where
