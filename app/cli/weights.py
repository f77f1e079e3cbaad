"""`cairn model …`: weights go up as streams, and come back with what a worker found in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError
from rich.markup import escape

from app.cli.api import UPLOAD_TIMEOUT, Api, connect, view
from app.cli.downloading import Remote, Target, fetch_all
from app.cli.failures import Failure, usage
from app.cli.looking import pages
from app.cli.screen import ago, err, out, print_json, size, state, table
from app.cli.uploading import post_file
from app.wire.datasets import NAME_PATTERN
from app.wire.models import ModelDetail, ModelPage, ModelView, Promote
from app.wire.system import WorkerView

ENDINGS = (".pt", ".pth", ".pb", ".ckpt", ".safetensors")
WAIT_S = 5
"""Seconds that one request waits for an inspection: in between is looked whether a worker is there at all."""


def add(file: str, fields: dict[str, Any], *, as_json: bool) -> None:
    """Upload a file, wait until a worker has looked into it, and print what it found."""
    path = Path(file)
    fields["name"] = _checked_name(fields.get("name") or default_name(path))
    with connect() as api:
        model = upload(api, path, fields)
        _print_inspected(api, model, as_json=as_json)


def default_name(path: Path) -> str:
    """Return a name made of a file's: `Water PBE.pt` becomes `water-pbe`."""
    name = path.name.lower()
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return re.sub(r"[^a-z0-9._-]+", "-", name).strip("-._")[:63]


def _checked_name(name: str) -> str:
    if not re.match(NAME_PATTERN, name):
        raise usage(
            f"{name!r} is no name for a base model.",
            code="bad-name",
            hint="Lower-case letters, digits, dots, dashes and underscores; --name sets it.",
        )
    return name


def upload(api: Api, path: Path, fields: dict[str, Any]) -> ModelView:
    """Send a file; return what the server made of it, which a worker has not looked into yet."""
    if path.is_dir():
        raise usage(f"{path} is a directory, not a file of weights.", code="unreadable-file")
    return view(ModelView, post_file(api, "/models", path, fields))


def promote(fields: dict[str, Any], *, as_json: bool) -> None:
    """Make a base model of a checkpoint, wait until a worker has looked into it, and print what it found."""
    try:
        body = Promote(**fields)
    except ValidationError as error:
        raise usage(f"{fields.get('name')!r} is no name for a base model.", code="bad-name") from error
    with connect() as api:
        answer = api.post("/models/promote", json=body.model_dump(exclude_none=True), timeout=UPLOAD_TIMEOUT)
        _print_inspected(api, view(ModelView, answer), as_json=as_json)


def _print_inspected(api: Api, model: ModelView, *, as_json: bool) -> None:
    found = _inspected(api, model)
    detail = view(ModelDetail, found)
    if as_json:
        print_json(found)
    elif detail.state != "refused":
        _print_model(detail)
    if detail.state == "refused" and detail.problem is not None:
        problem = detail.problem
        message = f"{detail.ref} was refused: {problem.message}"
        raise Failure(message, code=problem.code, hint=problem.hint)
    if not as_json:
        _print_what_next(detail)


def _inspected(api: Api, model: ModelView) -> Any:
    """Return the model once it was looked into, or as it is when nobody is there to do so."""
    with err().status(f"a worker looks into {escape(model.file_name)}"):
        while True:
            wait_s = WAIT_S if model.state == "inspecting" and attended(api, model.engine) else 0
            found = api.get(f"/models/{model.id}", wait=wait_s)
            if view(ModelView, found).state != "inspecting" or not wait_s:
                return found


def attended(api: Api, engine: str) -> bool:
    """Return whether a worker is alive that does an engine's errands."""
    workers = [view(WorkerView, item) for item in api.get("/workers")]
    return any(worker.alive and engine in worker.engines for worker in workers)


def _print_what_next(model: ModelDetail) -> None:
    if model.state == "ready":
        out().print(f'In a submission: "start": {{"mode": "finetune", "base": "{model.ref}"}}', soft_wrap=True)
        return
    err().print(f"[yellow bold]warning[/] No worker with the engine {escape(model.engine)} is there.")
    err().print(f"  [cyan]→[/] It is looked into once one is; `cairn model show {model.ref}` shows what was found.")


def list_models(name: str | None, *, limit: int, as_json: bool) -> None:
    """Print versions of base models, newest first."""
    with connect() as api:
        found = pages(api, "/models", limit, name=name)
    if as_json:
        print_json(found)
        return
    models = view(ModelPage, {"items": found}).items
    if not models:
        out().print("No base models. `cairn model add FILE` uploads one, `cairn model promote JOB` makes one of a job.")
        return
    rows = table(
        "name", "state", "architecture", "elements", "parameters", "size", "created", right=("parameters", "size")
    )
    for model in models:
        count = f"{model.parameters:,}" if model.parameters is not None else ""
        facts = (escape(model.architecture or ""), _elements(model.type_map), count)
        rows.add_row(model.ref, state(model.state), *facts, size(model.size), ago(model.created_at))
    out().print(rows)


def _elements(type_map: list[str], most: int = 6) -> str:
    more = f" … ({len(type_map)})" if len(type_map) > most else ""
    return escape(" ".join(type_map[:most])) + more


def show(reference: str, *, tensors: bool, as_json: bool) -> None:
    """Print what is in a base model."""
    with connect() as api:
        found = api.get(_address(reference))
    if as_json:
        print_json(found)
        return
    model = view(ModelDetail, found)
    _print_model(model)
    if tensors:
        _print_tensors(model)


def remove(reference: str, *, as_json: bool) -> None:
    """Delete a version of a base model."""
    with connect() as api:
        api.request("DELETE", _address(reference))
    if as_json:
        print_json({"deleted": reference})
    else:
        out().print(f"{escape(reference)} is deleted.")


def _address(reference: str) -> str:
    return f"/models/{quote(reference, safe='@:')}"


def _print_model(model: ModelDetail) -> None:
    console = out()
    console.print(
        f"[bold]{model.ref}[/]  {state(model.state)}  [dim]from {escape(model.source)}, {size(model.size)}[/]"
    )
    for label, value in _lines(model):
        console.print(f"  [dim]{label:<13}[/]{escape(value)}", soft_wrap=True)
    if model.facts is not None and model.branches:
        rows = table("branch", "parameters", "type map", right=("parameters",))
        for branch in model.facts.branches:
            rows.add_row(escape(branch.name), f"{branch.parameters:,}", _elements(branch.type_map, 12))
        console.print(rows)
    for warning in model.facts.warnings if model.facts else []:
        console.print(f"[yellow bold]warning[/] {escape(warning.message)}")


def _lines(model: ModelDetail) -> Iterator[tuple[str, str]]:
    if model.problem is not None:
        yield "refused", model.problem.message
        if model.problem.hint:
            yield "", f"→ {model.problem.hint}"
    if model.facts is not None:
        written = f", written by {model.facts.library}" if model.facts.library else ""
        yield "architecture", f"{model.architecture} ({model.facts.form}{written})"
        if model.type_map:
            yield "type map", " ".join(model.type_map)
        yield "parameters", f"{model.facts.parameters:,} in {len(model.facts.tensors)} tensors"
        if model.facts.step is not None:
            yield "step", f"{model.facts.step:,}"
    yield "file", model.file_name
    yield "sha256", model.sha256
    yield "md5", model.md5
    if model.used_by:
        yield "used by", f"job {', '.join(map(str, model.used_by))}"


def _print_tensors(model: ModelDetail) -> None:
    rows = table("tensor", "shape", "dtype", "kind", "sha256", right=("shape",))
    for tensor in model.facts.tensors if model.facts else []:
        shape = "×".join(map(str, tensor.shape)) or "scalar"
        kind = {True: "parameter", False: "buffer", None: ""}[tensor.is_parameter]
        rows.add_row(escape(tensor.name), shape, tensor.dtype, kind, (tensor.sha256 or "")[:12])
    out().print(rows)


def download(reference: str, target: Target, *, as_json: bool) -> None:
    """Fetch a base model's file and say where it is."""
    with connect() as api:
        model = view(ModelView, api.get(_address(reference)))
        remote = Remote(f"/models/{model.id}/file", model.file_name, sha256=model.sha256, size=model.size)
        fetch_all(api, [remote], target, as_json=as_json)
