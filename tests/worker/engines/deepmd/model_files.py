"""Files of weights as stock `dp --pt` and Cairn write them, made without training."""

import copy
import json
import warnings

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party imports warn about their own dependencies
    from deepmd.pt.model.model import get_model
    from deepmd.pt.train.training import get_model_for_wrapper
    from deepmd.pt.train.wrapper import ModelWrapper
    from deepmd.pt.utils.multi_task import preprocess_shared_params
    from deepmd.utils.argcheck import normalize

from tests.worker.engines.deepmd.deepmd_runs import DESCRIPTORS, make_config, make_multi_task_config

KINDS = (*DESCRIPTORS, "multi-task")


def make_sections(kind):
    """Return a model section without `sel: auto`."""
    section = (make_multi_task_config() if kind == "multi-task" else make_config(kind))["model"]
    _close(section)
    return section


def _close(value):
    if isinstance(value, dict):
        if value.get("sel") == "auto":
            value["sel"] = [30, 20] if value["type"].startswith("se_e") else 40
        value = list(value.values())
    for item in value if isinstance(value, list) else []:
        _close(item)


def make_wrapper(kind):
    """Return a model as DeePMD-kit trains it."""
    config = make_multi_task_config() if kind == "multi-task" else make_config(kind)
    config["model"], links = make_sections(kind), None
    if kind == "multi-task":
        config["model"], links = preprocess_shared_params(config["model"])
    section = normalize(config, multi_task=kind == "multi-task")["model"]
    wrapper = ModelWrapper(get_model_for_wrapper(copy.deepcopy(section)), model_params=section)
    if links:
        wrapper.share_params(links, dict.fromkeys(section["model_dict"], 1.0), resume=True)
    return wrapper


def make_checkpoint(kind):
    """Return what `dp --pt train` saves after 6 steps."""
    return checkpoint_of(make_wrapper(kind), step=6)


def checkpoint_of(wrapper, *, step):
    """Return what `dp --pt train` saves of a model after `step` steps: it stores the index of the last one, from 0."""
    wrapper.train_infos = {"lr": 0.001, "step": step - 1}
    optimizer = torch.optim.Adam(wrapper.parameters())
    return {"model": wrapper.state_dict(), "optimizer": optimizer.state_dict()}


def save(data, path):
    torch.save(data, path)
    return path


def freeze(data, path):
    """Write what `dp --pt freeze` makes of a single-task checkpoint."""
    section = data["model"]["_extra_state"]["model_params"]
    model = get_model(copy.deepcopy(section))
    prefix = "model.Default."
    model.load_state_dict(
        {name.removeprefix(prefix): value for name, value in data["model"].items() if name != "_extra_state"}
    )
    model.model_def_script = json.dumps(section)
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is DeePMD-kit's way to freeze
        torch.jit.save(torch.jit.script(model), path, {"data_modifier.pth": b""})
    return path
