"""DeePMD-kit's learning curve, `lcurve.out`: the same header, columns, widths and number formats as its trainer writes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Json = Any
Columns = Mapping[str, Sequence[float | None]]

_COMMENT = "# If there is no available reference data, rmse_*_{val,trn} will print nan\n"


def lines(config: Mapping[str, Json], steps: Sequence[int], columns: Columns) -> Iterator[str]:
    """Yield the lines: one row for step 1 and for every multiple of `disp_freq` (deepmd/pt/train/training.py).

    In a multi-task training only one task sees data at a step; the others show their newest value since the row before,
    where DeePMD-kit would draw an extra batch for them.
    """
    frequency = int(config["training"]["disp_freq"])
    rows = [index for index, step in enumerate(steps) if step == 1 or step % frequency == 0]
    tasks = list(config["model"]["model_dict"]) if "model_dict" in config["model"] else [""]
    table = [(task, _terms(columns, task), _has_validation(columns, task)) for task in tasks]
    yield "# step " + "".join(_heading(*entry) for entry in table) + "   lr      \n"
    yield _COMMENT
    previous = -1
    for row in rows:
        values = "".join(_values(columns, entry, previous, row) for entry in table)
        yield f"{steps[row]:7d}{values}   {_cell(columns, 'lr', previous, row):8.1e}\n"
        previous = row


def _terms(columns: Columns, task: str) -> list[str]:
    """Return the columns of a task in DeePMD-kit's order: `rmse` (the root of the loss) and every error, sorted."""
    suffix = f"/{task}" if task else ""
    names = {
        key.removeprefix("train/").removesuffix(suffix)
        for key in columns
        if key.startswith("train/") and key.endswith(suffix) and key.count("/") == 1 + bool(task)
    }
    return sorted(
        {
            "rmse" if name == "loss" else name
            for name in names
            if name in ("loss", "rmse") or name.startswith(("rmse_", "mae_"))
        }
    )


def _has_validation(columns: Columns, task: str) -> bool:
    suffix = f"/{task}" if task else ""
    return any(key.startswith("val/") and key.endswith(suffix) for key in columns)


def _heading(task: str, terms: list[str], has_validation: bool) -> str:
    suffix = f"_{task}" if task else ""
    text = ""
    for term in terms:
        training = f"{term}_trn{suffix}"
        text += f"   {f'{term}_val{suffix}':>11s} {training:>11s}" if has_validation else f"   {training:>11s}"
    return text


def _values(columns: Columns, entry: tuple[str, list[str], bool], previous: int, row: int) -> str:
    task, terms, has_validation = entry
    suffix = f"/{task}" if task else ""
    text = ""
    for term in terms:
        training = _cell(columns, f"train/{term}{suffix}", previous, row)
        if has_validation:
            text += f"   {_cell(columns, f'val/{term}{suffix}', row - 1, row):11.2e} {training:11.2e}"
        else:
            text += f"   {training:11.2e}"
    return text


def _cell(columns: Columns, key: str, previous: int, row: int) -> float:
    """Return the newest value of a key after row index `previous`, up to `row`; NaN when there is none."""
    column = columns.get(key)
    if column is None and "/rmse" in key and not key.partition("/rmse")[2].startswith("_"):
        loss = _cell(columns, key.replace("/rmse", "/loss"), previous, row)
        return math.sqrt(loss) if loss >= 0 else math.nan
    if column is None:
        return math.nan
    newest_first = (column[index] for index in range(row, previous, -1))
    return next((value for value in newest_first if value is not None), math.nan)
