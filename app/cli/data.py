"""`cairn dataset …`: datasets go up as streams, and come back as tables."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.markup import escape
from rich.table import Table

from app.cli.api import UPLOAD_TIMEOUT, Api, connect, view
from app.cli.failures import usage
from app.cli.looking import pages
from app.cli.screen import ago, out, print_json, size, table
from app.cli.uploading import post_file
from app.wire.datasets import (
    NAME_PATTERN,
    DatasetContents,
    DatasetPage,
    DatasetSummary,
    DatasetView,
    Range,
    RegisterDirectory,
)

MOST_PARTS = 40


def add(path: str, fields: dict[str, Any], *, on_server: bool, as_json: bool) -> None:
    """Upload a file or directory, or let the server take in a directory of its own; print what it found."""
    fields["name"] = fields.get("name") or default_name(path)
    if not re.match(NAME_PATTERN, fields["name"]):
        raise usage(
            f"{fields['name']!r} is no name for a dataset.",
            code="bad-name",
            hint="Lower-case letters, digits, dots, dashes and underscores; --name sets it.",
        )
    with connect() as api:
        found = _register(api, path, fields) if on_server else upload(api, Path(path), fields)
    if as_json:
        print_json(found)
        return
    dataset = view(DatasetView, found)
    _print_dataset(dataset)
    out().print(f"In a config: {escape(dataset.usage or dataset.ref)}", soft_wrap=True)


def default_name(path: str) -> str:
    """Return a dataset name made of a file's: `Water 300K.tar.gz` becomes `water-300k`."""
    name = Path(path).name.lower()
    for ending in (".gz", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".zip", ".extxyz", ".xyz", ".jsonl", ".json"):
        name = name.removesuffix(ending)
    return re.sub(r"[^a-z0-9._-]+", "-", name).strip("-._")[:63]


def _register(api: Api, path: str, fields: dict[str, Any]) -> Any:
    type_map = fields.pop("type_map", None)
    names = type_map.replace(",", " ").split() if type_map else None
    body = RegisterDirectory(path=path, type_map=names, **fields)
    return api.post("/datasets/directory", json=body.model_dump(exclude_none=True), timeout=UPLOAD_TIMEOUT)


def upload(api: Api, path: Path, fields: dict[str, Any]) -> Any:
    """Send a file, or a directory as a tar that is made on the way; return the server's answer."""
    return post_file(api, "/datasets", path, fields)


def list_datasets(name: str | None, *, limit: int, as_json: bool) -> None:
    """Print dataset versions, newest first."""
    with connect() as api:
        found = pages(api, "/datasets", limit, name=name)
    if as_json:
        print_json(found)
        return
    datasets = view(DatasetPage, {"items": found}).items
    if not datasets:
        out().print("No datasets. `cairn dataset add PATH` uploads one.")
        return
    rows = table("name", "holds", "entries", "size", "created", right=("entries", "size"))
    for dataset in datasets:
        holds, entries = _in_short(dataset.contents)
        ref = f"{dataset.name}@{dataset.version}"
        rows.add_row(ref, escape(holds), entries, size(dataset.size), ago(dataset.created_at))
    out().print(rows)


def _in_short(contents: DatasetContents) -> tuple[str, str]:
    """Return what a dataset holds, and how much of it."""
    if contents.files:
        what = "documents" if contents.documents else "conversations"
        return f"text in {contents.files} files", f"{contents.documents + contents.conversations:,} {what}"
    if contents.structures:
        return f"{' '.join(contents.elements)} in structures without labels", f"{contents.structures:,} structures"
    if contents.tokenizer:
        return f"tokenizer ({contents.tokenizer})", f"{contents.tokens:,} tokens"
    return f"{' '.join(contents.elements)} in {contents.systems} systems", f"{contents.frames:,} frames"


def show(reference: str, *, as_json: bool) -> None:
    """Print what is in a dataset."""
    with connect() as api:
        found = api.get(f"/datasets/{quote(reference.removeprefix('dataset:'), safe='@')}")
    if as_json:
        print_json(found)
        return
    _print_dataset(view(DatasetView, found))


def _print_dataset(dataset: DatasetView) -> None:
    summary = dataset.summary
    console = out()
    console.print(f"[bold]{dataset.ref}[/]  [dim]from {escape(dataset.source)}, {size(dataset.size)}[/]")
    for label, value in _facts(dataset):
        console.print(f"  [dim]{label:<10}[/]{escape(value)}")
    parts = len(summary.systems) + len(summary.structures) + len(summary.text.files if summary.text else ())
    if parts:
        console.print(_parts(summary))
    if parts > MOST_PARTS:
        console.print(f"and {parts - MOST_PARTS} more (--json shows all)")
    for one in summary.structures[:MOST_PARTS]:
        for finding in one.findings:
            console.print(f"[yellow bold]{escape(one.name)}[/] {escape(finding.message)}")
    for warning in dataset.warnings:
        console.print(f"[yellow bold]warning[/] {escape(warning)}")


def _parts(summary: DatasetSummary) -> Table:
    """Return the systems or files of a dataset, the first of them."""
    if summary.text:
        rows = table("file", "form", "lines", "characters", "size", right=("lines", "characters", "size"))
        for file in summary.text.files[:MOST_PARTS]:
            rows.add_row(escape(file.name), file.form, f"{file.entries:,}", f"{file.characters:,}", size(file.size))
        return rows
    if summary.structures:
        rows = table("structure", "formula", "atoms", "periodic", "fixed atoms", right=("atoms", "fixed atoms"))
        for one in summary.structures[:MOST_PARTS]:
            rows.add_row(escape(one.name), one.formula, str(one.atoms), "yes" if one.periodic else "no", str(one.fixed))
        return rows
    rows = table("system", "atoms", "frames", "labels", right=("atoms", "frames"))
    for system in summary.systems[:MOST_PARTS]:
        rows.add_row(escape(system.name), str(system.atoms), str(system.frames), ", ".join(system.labels))
    return rows


def _facts(dataset: DatasetView) -> Iterator[tuple[str, str]]:
    summary = dataset.summary
    if summary.systems:
        yield from _of_atoms(summary)
    if text := summary.text:
        if text.documents:
            yield "documents", f"{text.documents:,}"
        if text.conversations:
            yield "chats", f"{text.conversations:,} of {text.turns:,} messages"
        yield "characters", f"{text.characters:,}"
    if tokenizer := summary.tokenizer:
        yield "tokenizer", f"{tokenizer.model}, {tokenizer.vocab_size:,} tokens"
        yield "special", " ".join(tokenizer.special_tokens)
        yield "template", "its own chat template" if tokenizer.has_chat_template else "none: ChatML is used"
    yield "sha256", dataset.digest


def _of_atoms(summary: DatasetSummary) -> Iterator[tuple[str, str]]:
    yield "frames", f"{summary.frames} in {len(summary.systems)} systems"
    yield "elements", f"{' '.join(summary.elements)}  (type map {' '.join(summary.type_map)})"
    ranges: tuple[tuple[str, Range | None, str], ...] = (
        ("energy", summary.energy_per_atom_ev, "eV/atom"),
        ("forces", summary.force_ev_per_angstrom, "eV/Å"),
        ("virials", summary.virial_per_atom_ev, "eV/atom"),
    )
    yield from ((label, f"{r.low:.4g} … {r.high:.4g} {unit}") for label, r, unit in ranges if r)


def remove(reference: str, *, as_json: bool) -> None:
    """Delete a version of a dataset."""
    with connect() as api:
        api.request("DELETE", f"/datasets/{quote(reference, safe='@:')}")
    if as_json:
        print_json({"deleted": reference})
    else:
        out().print(f"{escape(reference)} is deleted.")
