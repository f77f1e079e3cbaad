"""What a forkserver imports so that its children train at once: everything slow, no CUDA, no threads."""

import importlib
import os
import sys

_SLOW = (
    "deepmd.pt.entrypoints.main",
    "deepmd.utils.econf_embd",  # brings mendeleev, one second on its own, when a model is first built
    "pyarrow.ipc",
    "worker.engines.deepmd.trainer",
    "worker.trainer",
)


def load() -> None:
    """Import DeePMD-kit's PyTorch half and what its trainer imports on first use (about 5 s).

    DeePMD fixes its device while it is imported: `cuda:0` when it sees a GPU, else the CPU. Asking CUDA itself would
    make it unusable in forked children, so torch is told to ask the driver's management library instead. A child that
    sets CUDA_VISIBLE_DEVICES to one GPU then trains on that one, as its `cuda:0`. For CPU-only children on a machine
    with GPUs set DEVICE=cpu, DeePMD's own variable, before calling this.
    """
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    for name in _SLOW:
        importlib.import_module(name)
    torch = sys.modules["torch"]
    assert not torch.cuda.is_initialized(), "an import started CUDA: forked children could not use it"
