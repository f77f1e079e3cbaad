"""A model's weights in the forms that other programs read. The same weights are the same bytes."""

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

from app.engines.minimind.model import shapes
from worker.engines.minimind import names
from worker.engines.minimind.model import Section, configuration
from worker.engines.minimind.tokenizer import Tokenizer

Tensors = Mapping[str, torch.Tensor]

DTYPE = torch.float16
"""What MiniMind saves in; the checkpoint has full precision."""


def write_pth(tensors: Tensors, section: Section, path: Path) -> None:
    """Write MiniMind's own file: a state dict in float16, the head in it also where it is the embedding."""
    state = _halved(tensors, section)
    # Through a file of ours: given a path, torch writes its name into the file, and reports a full disk as its own error.
    with path.open("wb") as file:
        torch.save(state, file)


def write_directory(tensors: Tensors, section: Section, tokenizer: Tokenizer, path: Path) -> None:
    """Write a zip file of a directory that `AutoModelForCausalLM` and `AutoTokenizer` load.

    Its tensors have the names that every version of transformers reads, experts by themselves.
    """
    is_tied = section["tie_word_embeddings"]
    state = {name: value for name, value in _halved(tensors, section).items() if not names.alias_of(name, is_tied)}
    weights = path.with_suffix(".safetensors")
    safetensors.torch.save_file(state, weights, metadata={"format": "pt"})
    texts = {**_configs(section, tokenizer), **tokenizer.files()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, text in texts.items():
            archive.writestr(_dateless(f"{path.stem}/{name}"), text)
        large = _dateless(f"{path.stem}/model.safetensors")
        with weights.open("rb") as source, archive.open(large, "w", force_zip64=True) as member:
            shutil.copyfileobj(source, member, 1 << 20)
    weights.unlink()


def _halved(tensors: Tensors, section: Section) -> dict[str, torch.Tensor]:
    """Return tensors as files have them, in the order of the layers; what shares memory shares it there, too."""
    own = {name: tensors[name] for name in shapes(section)}
    is_tied = section["tie_word_embeddings"]
    state = {
        name: tensor.to("cpu", DTYPE).contiguous()
        for name, tensor in own.items()
        if names.alias_of(name, is_tied) is None
    }
    return {name: state[names.alias_of(name, is_tied) or name] for name in own}


def _configs(section: Section, tokenizer: Tokenizer) -> dict[str, str]:
    config = configuration(section).to_diff_dict()
    config |= {"dtype": "float16", "architectures": [_ARCHITECTURES[config["model_type"]]]}
    config |= {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos}
    config["rope_theta"] = section["rope_theta"]  # where transformers before version 5 looks for it
    generation = {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos, "pad_token_id": tokenizer.pad}
    return {"config.json": _text(config), "generation_config.json": _text(generation)}


_ARCHITECTURES = {"qwen3": "Qwen3ForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM", "llama": "LlamaForCausalLM"}


def _text(value: Mapping[str, object]) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _dateless(name: str) -> zipfile.ZipInfo:
    """Return a member without the time at which it was written."""
    return zipfile.ZipInfo(name)
