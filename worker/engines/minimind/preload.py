"""Importing this module imports everything slow (about 5 s), for a forkserver whose children shall train at once.

It touches no GPU and starts no thread. Asking CUDA whether there is a GPU would make it unusable in forked children, so
torch is told to ask the driver's management library instead.
"""

import os

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # models come from Cairn: nothing here may look for one elsewhere

import jinja2  # brought by the first chat template otherwise
import pyarrow.ipc
import torch
import torch._dynamo  # brought by the first optimizer step otherwise
import transformers.generation

import worker.engines.minimind.errands
import worker.engines.minimind.trainer
import worker.errand
import worker.trainer

assert not torch.cuda.is_initialized(), "an import started CUDA: forked children could not use it"

__all__ = ["jinja2", "pyarrow", "torch", "transformers", "worker"]
