"""Random state, fingerprints, causes and the process's own setup."""

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from worker import rng
from worker.background import Background
from worker.checkpoint import fingerprint
from worker.failures import TrainingFailure, cause_of


def _draw():
    return random.random(), float(np.random.rand()), float(np.random.standard_normal()), torch.rand(3).tolist()


def test_random_state_survives_a_file(tmp_path):
    rng.seed_all(5)
    np.random.standard_normal()  # leaves half of a pair behind
    torch.save(rng.get_state(), tmp_path / "state.pt")
    expected = _draw(), _draw()
    rng.seed_all(6)
    rng.set_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (_draw(), _draw()) == expected


def test_a_preserved_block_draws_for_itself_only():
    rng.seed_all(5)
    expected = _draw()
    rng.seed_all(5)
    with suppress(KeyError), rng.preserved():
        _draw()
        raise KeyError
    assert _draw() == expected


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("python", random.random),
        ("python", random.gauss),
        ("numpy", np.random.rand),
        ("numpy", np.random.standard_normal),
        ("torch", lambda: torch.rand(1)),
    ],
)
def test_one_draw_shows_in_the_digest_of_its_generator_alone(name, draw):
    rng.seed_all(5)
    before = rng.digests(rng.get_state())
    draw()
    after = rng.digests(rng.get_state())
    assert {key for key in before if after[key] != before[key]} == {name}
    rng.seed_all(5)
    assert rng.digests(rng.get_state()) == before


def test_a_fingerprint_tells_name_dtype_shape_and_every_bit():
    base = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3)}
    variants = [
        base,
        {"c": base["a"], "b": base["b"]},
        {**base, "a": base["a"].double()},
        {**base, "a": base["a"].reshape(2, 1)},
        {**base, "a": torch.nextafter(base["a"], torch.tensor(9.0))},
        {**base, "a": torch.tensor([-0.0, 2.0])},
        {**base, "a": torch.tensor([0.0, 2.0])},
    ]
    assert len({fingerprint(tensors) for tensors in variants}) == len(variants)
    assert fingerprint({"b": base["b"], "a": base["a"]}) == fingerprint(base)
    assert fingerprint({"a": torch.stack([base["a"]] * 2).T[:, 0], "b": base["b"]}) == fingerprint(base)
    assert fingerprint({"half": torch.ones(3, dtype=torch.bfloat16), "none": torch.empty(0, 4)})


@pytest.mark.parametrize(
    ("error", "phase", "failure"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.pt"), "training", "disk-full"),
        (MemoryError(), "training", "out-of-memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "statistics", "out-of-memory"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "training",
            "out-of-memory",
        ),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAlloc"),  # as torch broke it off
            "training",
            "out-of-memory",
        ),
        (FileNotFoundError(2, "No such file", "type.raw"), "data", "data"),
        (ValueError("unsupported batch size rule"), "model", "configuration"),
        (RuntimeError("mat1 and mat2 shapes"), "training", "library"),
        (TrainingFailure("data", "no frames", hint="add some"), "training", "data"),
    ],
)
def test_every_exception_has_a_cause(error, phase, failure):
    cause = cause_of(error, phase, 7)
    assert cause.failure == failure
    assert cause.step == 7
    assert cause.message


def test_what_torch_says_without_memory_is_understood():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60, dtype=torch.uint8)
    cause = cause_of(refused.value, "model")
    assert cause.failure == "out-of-memory"
    assert cause.message.startswith("Out of memory in phase model. It wanted 1073741824.0 GiB at once. RuntimeError:")
    assert "layers" in cause.hint
    assert "batch size" in cause_of(refused.value, "training", 7).hint


def test_the_writing_thread_is_there_before_it_is_needed():
    with Background():
        assert any(thread.name.startswith("writer") for thread in threading.enumerate())


def test_a_child_dies_with_its_parent():
    child = "import os, time; from worker.process import die_with_parent; die_with_parent(); print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    for _ in range(3000):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):  # the latter if it goes between being opened and being read
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the child outlived its parent")


def test_output_of_c_code_reaches_the_log_too(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from worker.process import redirect_output\n"
        "redirect_output(Path(sys.argv[1])); print('python'); os.write(2, b'c code\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "log.txt"], capture_output=True, check=True)
    assert done.stdout == done.stderr == b""
    assert (tmp_path / "log.txt").read_text() == "python\nc code\n"
