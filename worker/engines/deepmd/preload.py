"""Importing this module imports everything slow (about 5 s), for a forkserver whose children shall train at once.

It touches no GPU and starts no thread. DeePMD fixes its device while it is imported: `cuda:0` when it sees a GPU, else
the CPU. Asking CUDA itself would make it unusable in forked children, so torch is told to ask the driver's management
library instead. A child that sets CUDA_VISIBLE_DEVICES to one GPU then trains on that one, as its `cuda:0`. For CPU-only
children on a machine with GPUs, set DEVICE=cpu (DeePMD's own variable) in the forkserver.
"""

import os

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import deepmd.pt.entrypoints.main
import deepmd.utils.econf_embd  # brings mendeleev, one second on its own, when a model is first built
import pyarrow.ipc
import torch

import worker.engines.deepmd.deviation
import worker.engines.deepmd.errands
import worker.engines.deepmd.freezing
import worker.engines.deepmd.testing
import worker.engines.deepmd.trainer
import worker.errand
import worker.trainer
from app.engines.deepmd.schema import tree

tree(multi_task=False)  # kept in memory: 60 ms that no errand has to wait for

assert not torch.cuda.is_initialized(), "an import started CUDA: forked children could not use it"

__all__ = ["deepmd", "pyarrow", "worker"]
