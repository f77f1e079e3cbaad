"""What a run directory holds before the trainer starts: the base, unless there is a checkpoint to continue from."""

import hashlib
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.wire.checkpoints import CheckpointFile
from app.wire.submission import CheckpointPolicy, Start
from app.wire.transfer import TransferPlan
from app.wire.worker import BaseGrant, CheckpointGrant, Claim, ModelGrant
from tests.worker.wire import Answer, problem, serving
from worker.cache import Cache
from worker.prepare import CheckpointLost, prepare
from worker.rundir import BaseSpec, ModelSpec, RunDir

WEIGHTS, SAVED = b"weights of the base", b"a checkpoint"
BLOBS = {hashlib.sha256(blob).hexdigest(): blob for blob in (WEIGHTS, SAVED)}
BASE, CHECKPOINT = BLOBS
PLAN = TransferPlan(
    base="water@3", sha256=BASE, mode="init", tensors=[], components=[], parameters=0, kept=0, counts={}
)  # fmt: skip
MODEL = {"type_map": ["H"], "descriptor": {"type": "se_e2_a", "sel": [4]}, "fitting_net": {}}


def _claim(**fields):
    given = {
        "job_id": 1, "job_name": "t", "kind": "train", "attempt": 1, "attempt_id": 1, "token": "t", "heartbeat_s": 1.0,
        "lease_s": 9.0, "engine": "deepmd", "submitted": {}, "seed": 1, "seeds": {}, "determinism": "strict",
        "config": {"model": MODEL, "training": {"training_data": {"systems": []}}}, "total_steps": 1, "file_stem": "t",
        "start": Start(mode="init", base="water@3"), "checkpoints": CheckpointPolicy(), "plan": PLAN,
        "base": BaseGrant(name="water@3", file_name="../../my water.pth", sha256=BASE, size=len(WEIGHTS)),
    }  # fmt: skip
    return Claim.model_validate({**given, **fields})


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    directory = RunDir(tmp_path / "run")
    directory.create()
    return directory


def _prepare(run, claim):
    def answer(request):
        blob = BLOBS.get(request.path.rpartition("/")[2])
        return Answer(200, blob) if blob else problem(404, "not-found", "no such thing")

    said = []
    with serving() as wire, ExitStack() as in_use:
        wire.answer = answer
        with wire.api() as api:
            cache = Cache(run.root / "cache", 1 << 20)
            prepare(api, claim, cache, run, 1, in_use, lambda kind, message: said.append((kind, message)))
    return run.read_spec(), said


def test_the_base_lies_under_a_name_of_our_own(run):
    spec, said = _prepare(run, _claim())
    assert spec.base == BaseSpec(name="water@3", file_name="base.pth", sha256=BASE)
    assert spec.plan == PLAN
    assert (run.base / "base.pth").read_bytes() == WEIGHTS
    assert [kind for kind, _ in said] == ["fetched"]
    assert "water@3" in said[0][1]


def test_an_attempt_that_continues_needs_no_base(run):
    file = CheckpointFile(name="t-step4.pt", role="checkpoint", sha256=CHECKPOINT, md5="0" * 32, size=len(SAVED))
    spec, _ = _prepare(run, _claim(resume_from=CheckpointGrant(step=4, files=[file])))
    assert (spec.base, spec.plan, spec.resume_step) == (None, None, 4)
    assert list(run.base.iterdir()) == []
    assert (run.resume / "t-step4.pt").read_bytes() == SAVED


def test_a_checkpoint_that_is_gone_is_no_mistake_in_the_job(run):
    lost = CheckpointFile(name="t-step4.pt", role="checkpoint", sha256="0" * 64, md5="0" * 32, size=1)
    with pytest.raises(CheckpointLost, match="The checkpoint of step 4 is lost: no such thing"):
        _prepare(run, _claim(resume_from=CheckpointGrant(step=4, files=[lost])))


def test_models_lie_in_their_order_under_names_of_our_own(run):
    files = (("water@3", "../my water.pth", BASE), ("job:1@4", "t-step4.pt", CHECKPOINT))
    grants = [ModelGrant(name=name, file_name=file, sha256=sha256, size=1) for name, file, sha256 in files]
    claim = _claim(kind="model-devi", config={"data": []}, base=None, plan=None, start=Start(), models=grants)
    spec, _ = _prepare(run, claim)
    assert (spec.kind, spec.base) == ("model-devi", None)
    assert spec.models == [
        ModelSpec(name="water@3", file_name="0.pth", sha256=BASE),
        ModelSpec(name="job:1@4", file_name="1.pt", sha256=CHECKPOINT),
    ]
    assert [(run.models / model.file_name).read_bytes() for model in spec.models] == [WEIGHTS, SAVED]
