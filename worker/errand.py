"""An errand's process: reads an order, does it with an engine's torch half under limits, writes only its result.

```
DIR/order.json    Order, written by the worker
DIR/log.txt       stdout and stderr
DIR/result.json   ErrandResult, written last: without it the process was killed
```
"""

import faulthandler
import importlib
import os
import traceback
from pathlib import Path

from pydantic import Field

from app.wire.base import Message
from app.wire.problems import Problem
from app.wire.worker import ErrandGrant, ErrandResult
from worker import sandbox
from worker.engines.base import Errands, RefusedFile
from worker.failures import is_out_of_memory
from worker.rundir import write_json

ORDER, RESULT = "order.json", "result.json"

RESULT_BYTES = 256 << 20
"""Largest result, and largest log: facts of a hundred thousand tensors take some 40 MB."""
MESSAGE_CHARS = 2000


class Order(Message):
    """What to do, and within which limits."""

    module: str = Field(description="`worker.engines.base.Errands`, as the engine names it.")
    grant: ErrandGrant
    file: Path | None = Field(default=None, description="inspect: the bytes.")
    memory_bytes: int
    cpu_s: int


def main(directory: Path) -> int:
    """Do what DIRECTORY/order.json says and write DIRECTORY/result.json. To be called once per process."""
    faulthandler.enable()
    order = Order.model_validate_json((directory / ORDER).read_bytes())
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    _use_one_thread()
    sandbox.confine(memory_bytes=order.memory_bytes, cpu_s=order.cpu_s, file_bytes=RESULT_BYTES)
    write_json(directory / RESULT, carry_out(order), durable=False)
    return 0


def _use_one_thread() -> None:
    """Leave the cores to the trainings beside which errands run."""
    import torch

    torch.set_num_threads(1)


def carry_out(order: Order) -> ErrandResult:
    """Do an errand; whatever goes wrong becomes its problem."""
    try:
        return ErrandResult(result=_do(importlib.import_module(order.module), order))
    except RefusedFile as error:
        return refusal("unusable", str(error), error.hint)
    except Exception as error:  # noqa: BLE001 - every end becomes a result
        traceback.print_exc()
        if is_out_of_memory(error):
            return out_of_memory(order)
        message = f"{_what(order)} failed: {type(error).__name__}: {error}"
        return refusal("errand-failed", message, "This is a mistake in Cairn, or a file made to mislead.")


def _do(engine: Errands, order: Order) -> dict[str, object]:
    if order.grant.kind == "inventory":
        return engine.inventory(order.grant.order).model_dump(mode="json")
    assert order.file is not None, "an inspection has a file"
    return engine.inspect(order.file, order.grant.file_name or "The file").model_dump(mode="json")


def out_of_memory(order: Order) -> ErrandResult:
    """Return the problem of an errand that its memory did not suffice for."""
    message = f"{_what(order)} needs more than the {order.memory_bytes / 2**30:.1f} GiB of memory that it may take."
    return refusal("out-of-memory", message, "If it is right as it is, raise CAIRN_ERRAND_MEMORY_BYTES on the workers.")


def took_too_long(order: Order, seconds: float) -> ErrandResult:
    """Return the problem of an errand that its time did not suffice for."""
    hint = "If it is right as it is, raise CAIRN_ERRAND_S on the server."
    return refusal("took-too-long", f"{_what(order)} took longer than the {seconds:.0f} s that it may take.", hint)


def crashed(order: Order, how: str) -> ErrandResult:
    """Return the problem of an errand whose process ended without a result."""
    message = f"{_what(order)} crashed ({how})."
    return refusal(
        "crashed", message, "Weights should not be able to do this: is the file damaged, or made to mislead?"
    )


def refusal(code: str, message: str, hint: str | None) -> ErrandResult:
    """Return a result that is a problem. Its message may quote what somebody made up: it is cut to a bearable length."""
    return ErrandResult(problem=Problem(code=code, message=message[:MESSAGE_CHARS], hint=hint))


def _what(order: Order) -> str:
    if order.grant.kind == "inventory":
        return "Listing the tensors of the model"
    return f"Looking into {order.grant.file_name or 'the file'}"
