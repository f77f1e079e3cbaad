"""Opens trained models for inference that repeats: a checkpoint as it is, a frozen model with its own code."""

import zipfile
from collections.abc import Set
from pathlib import Path

import torch
from deepmd.infer.deep_pot import DeepPot

from worker import wrappers
from worker.engines.base import Context
from worker.rundir import ModelSpec, RunDir

ATOMS_AT_ONCE = 1024
"""Atoms of one evaluation: what DeePMD-kit itself begins with. Always the same, so that no bit depends on free memory."""


def repeatably() -> None:
    """Let a scripted model's first call run the same code, with the same last bits, as its later ones."""
    torch.jit.set_fusion_strategy([("STATIC", 0), ("DYNAMIC", 0)])


def open_model(run: RunDir, model: ModelSpec, context: Context, head: str | None = None) -> DeepPot:
    """Return a model, ready to be evaluated; of one with several tasks that of `head`."""
    path = named(run, model, head)
    loaded = opened(path, head)
    if path.suffix == ".pt":
        _check_weights(_names(path, head), loaded, model.name, context)
    return loaded


def named(run: RunDir, model: ModelSpec, head: str | None) -> Path:
    """Return a model's file under a name that tells DeePMD-kit what it is, and with no names in it but the model's own."""
    # DeePMD-kit tells checkpoints from frozen models by the ending of the name, whatever the file is.
    path = run.models / model.file_name
    is_frozen = _is_frozen(path)
    link = path.with_name(f"{path.stem}-model{'.pth' if is_frozen else '.pt'}")
    link.unlink(missing_ok=True)
    link.symlink_to(path.name)
    if is_frozen:
        return link
    held = torch.load(path, map_location="cpu", weights_only=True)
    state, prefixes = wrappers.unwrapped(held.get("model", held), (head,) if head else ())
    if prefixes:
        link.unlink()
        torch.save({"model": state}, link)
    return link


def opened(path: Path, head: str | None = None) -> DeepPot:
    """Return the model of a file of DeePMD-kit's naming."""
    return DeepPot(str(path), auto_batch_size=False, no_jit=True, head=head)


def _is_frozen(path: Path) -> bool:
    """Return whether a file is a TorchScript archive, which has code in it. A checkpoint of torch before 1.6 is no archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def tensors(path: Path, head: str | None) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint as the model of a task has them: `model.Default.…` in every case."""
    held = torch.load(path, map_location="cpu", weights_only=True)
    state = {name: value for name, value in held.get("model", held).items() if torch.is_tensor(value)}
    if head is None:
        return state
    start = f"model.{head}."
    return {
        f"model.Default.{name.removeprefix(start)}": value for name, value in state.items() if name.startswith(start)
    }


def _names(path: Path, head: str | None) -> Set[str]:
    return tensors(path, head).keys()


def _check_weights(names: Set[str], loaded: DeepPot, name: str, context: Context) -> None:
    """Say aloud which weights a file lacks, or has beside the model's: DeePMD-kit loads it all the same."""
    has = {name for name, value in loaded.deep_eval.dp.state_dict().items() if torch.is_tensor(value)}
    odd = sorted(has ^ names)
    if odd:
        shown = ", ".join(odd[:5]) + (f" and {len(odd) - 5} more" if len(odd) > 5 else "")
        context.event("warning", f"{name} is of another version of DeePMD-kit: model and file differ in {shown}.")
