"""The data of a config: references to datasets, the files of text they stand for, and whether the stage fits them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from app.engines.base import DatasetFacts, DataUse, DataWords
from app.engines.draft import Draft, Path
from app.engines.references import digests, named, newest
from app.engines.starts import near
from app.wire.datasets import DatasetRef, TextFile

Json = Any

WORDS = DataWords(
    forms='JSON lines of `{"text": …}` or `{"conversations": [{"role": …, "content": …}, …]}`, alone or in an archive (tar, '
    "zip); or a `tokenizer.json`, with its `tokenizer_config.json` beside it",
    remedy="Split it into several files of JSON lines, which are read line by line",
    command="cairn dataset add path/to/corpus.jsonl --name corpus",
    endings=(".jsonl", ".ndjson", ".jsonl.gz", "tokenizer.json"),
)

_TRAIN, _VALIDATION, _FRACTION = ("data", "train"), ("data", "validation"), ("data", "validation_fraction")

_LEARNS = {"pretrain": "text", "sft": "conversations"}
"""Form of the data that each stage learns from."""

_IN_WORDS = {"text": "texts", "conversations": "conversations"}


def data_uses(config: Mapping[str, Json]) -> Iterator[DataUse]:
    """Yield every text of a submitted config that names data, MiniMind's `data_path` and the tokenizer included."""
    yield from named(("data_path",), config.get("data_path"))
    data, tokenizer = config.get("data"), config.get("tokenizer")
    if isinstance(data, Mapping):
        yield from named(_TRAIN, data.get("train"))
        yield from (replace(use, validates=True) for use in named(_VALIDATION, data.get("validation")))
    source = tokenizer.get("source") if isinstance(tokenizer, Mapping) else None
    if isinstance(source, str) and source.startswith("dataset:"):
        yield from (replace(use, validates=True) for use in named(("tokenizer", "source"), source))


def settle_data(draft: Draft, datasets: Mapping[str, DatasetFacts]) -> None:
    """Pin every reference to a version, and refuse data that the stage does not learn from."""
    found = {path: _settled(draft, path, datasets) for path in (_TRAIN, _VALIDATION)}
    if draft.get(*_TRAIN) == []:
        draft.refuse("missing-key", _TRAIN, "names no data", 'Write {"data": {"train": ["dataset:NAME"]}}.')
    if draft.get(*_VALIDATION) and draft.get(*_FRACTION):
        message = "and data.validation exclude each other: validation data are given, or set aside"
        draft.refuse("contradiction", _FRACTION, message, "Keep one of them.")
    both = [name for name in found[_VALIDATION] if name in found[_TRAIN]]
    if both:
        message = f"names {', '.join(both)}, which is trained on, too: it does not show how well new text is known"
        hint = "Validate on other data, or set some aside: data.validation_fraction."
        draft.warn("overlap", _VALIDATION, message, hint)


def _settled(draft: Draft, path: Path, datasets: Mapping[str, DatasetFacts]) -> list[str]:
    """Pin the references at a path, and return all files that they stand for; nothing of what does not exist."""
    value = draft.get(*path)
    texts = [value] if isinstance(value, str) else value
    files: list[str] = []
    pinned: list[str] = []
    notes: list[str] = []
    for index, text in enumerate(texts):
        facts, ref = datasets.get(text), DatasetRef.parse(text)
        if facts is not None and ref is not None:
            chosen = _files(draft, path if isinstance(value, str) else (*path, index), ref, facts)
            files += [f"dataset:{facts.name}@{facts.version}/{file.name}" for file in chosen]
            pinned.append(str(ref.model_copy(update={"version": facts.version})))
            notes += newest(ref, facts)
    if len(pinned) == len(texts) and pinned != value:
        note = "; ".join(dict.fromkeys(notes)) or None
        draft.put(path, pinned, "derived", source=digests(texts, datasets), note=note)
    return files


def _files(draft: Draft, path: Path, ref: DatasetRef, facts: DatasetFacts) -> list[TextFile]:
    """Return the files that a reference stands for, with what is wrong about them reported."""
    name = f"{facts.name}@{facts.version}"
    if facts.text is None:
        what = "a tokenizer" if facts.tokenizer else "no text"
        hint = "Name it as tokenizer.source." if facts.tokenizer else "Choose a dataset of JSON lines."
        draft.refuse("not-text", path, f"names {name}, which holds {what}: nothing to learn from", hint)
        return []
    files = [file for file in facts.text.files if ref.system in (None, file.name)]
    if not files:
        names = [file.name for file in facts.text.files]
        message = f"names {ref}, but dataset {name} has no file {ref.system}"
        draft.refuse("unknown-file", path, message, f"{near(ref.system, names)}It has {', '.join(names)}.")
    _check_form(draft, path, files, name)
    return files


def _check_form(draft: Draft, path: Path, files: list[TextFile], name: str) -> None:
    """Refuse texts for stage sft, and conversations for pretrain."""
    stage = draft.get("stage")
    wrong = [file for file in files if file.form != _LEARNS[stage]]
    if not wrong:
        return
    fits = [file.name for file in files if file not in wrong]
    listed = ", ".join(file.name for file in wrong)
    message = (
        f"names {name}, which has {_IN_WORDS[wrong[0].form]} in {listed}: stage {stage} learns from "
        f"{_IN_WORDS[_LEARNS[stage]]}"
    )
    other = next(other for other, form in _LEARNS.items() if form == wrong[0].form)
    hint = (
        f'Name dataset:{name}/{fits[0]} alone, or write "stage": "{other}".' if fits else f'Write "stage": "{other}".'
    )
    draft.refuse("wrong-form", path, message, hint)
