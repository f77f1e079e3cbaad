"""Using several models together with DeePMD-kit's own commands."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any


def commands(config: Mapping[str, Any], files: Sequence[str]) -> list[str]:
    """Return the commands of DeePMD-kit that find how far models differ; for several tasks of the first of them."""
    tasks = list(config["model"].get("model_dict", ()))
    models = [file.removesuffix(".pt") + ".pth" for file in files] if tasks else files
    frozen = [
        shlex.join(["dp", "--pt", "freeze", "-c", file, "-o", model, "--head", tasks[0]])
        for file, model in zip(files, models, strict=True)
        if tasks
    ]
    return [*frozen, shlex.join(["dp", "--pt", "model-devi", "-m", *models, "-s", "SYSTEM", "-o", "model_devi.out"])]
