"""Documents of JSONL datasets, one after the other, in constant memory."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.wire.datasets import DatasetRef
from worker.failures import TrainingFailure

Json = Any
Message = dict[str, Json]
Document = str | list[Message]
"""A text (stage pretrain), or the messages of a conversation (stage sft)."""

TOKENIZER = "tokenizer.json"
_LINES_AT_ONCE = 200


@dataclass(frozen=True)
class Corpus:
    """What documents are read, in this order."""

    files: Sequence[Path]
    stage: str
    heed: Callable[[], None] = lambda: None
    """Called every few hundred lines; what it raises ends the reading."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files)

    def documents(self) -> Iterator[tuple[Document, int]]:
        """Yield every document and how many bytes of the files it took.

        Raises:
            TrainingFailure: A line is not what the stage needs; the message names file and line.
        """
        for path in self.files:
            with path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if number % _LINES_AT_ONCE == 1:
                        self.heed()
                    if line.strip():
                        yield _document(line, self.stage, f"{path.name}, line {number}"), len(line)


def locate(refs: Sequence[str], stage: str, data_root: Path, heed: Callable[[], None] = lambda: None) -> Corpus:
    """Return what resolved references stand for: a file, or all `.jsonl` files of a dataset in the order of their names."""
    return Corpus([path for text in refs for path in _files(text, data_root)], stage, heed)


def tokenizer_files(text: str, data_root: Path) -> tuple[str, Json]:
    """Return the tokenizer.json of a dataset and its parsed tokenizer_config.json, which may be empty."""
    ref = _parsed(text)
    root = data_root / f"{ref.name}@{ref.version}"
    found = sorted(root.rglob(TOKENIZER), key=lambda path: (len(path.parts), path))
    if not found:
        raise TrainingFailure("data", f"{text} holds no {TOKENIZER}.")
    config = found[0].with_name("tokenizer_config.json")
    parsed = json.loads(config.read_bytes()) if config.exists() else {}
    template = found[0].with_name("chat_template.jinja")
    if template.exists():
        parsed["chat_template"] = template.read_text(encoding="utf-8")
    return found[0].read_text(encoding="utf-8"), parsed


def _parsed(text: str) -> DatasetRef:
    ref = DatasetRef.parse(text)
    if ref is None or ref.version is None:
        hint = "Name data as dataset:NAME@VERSION or dataset:NAME@VERSION/FILE.jsonl."
        raise TrainingFailure("data", f"{text!r} is not a resolved dataset reference.", hint=hint)
    return ref


def _files(text: str, data_root: Path) -> list[Path]:
    ref = _parsed(text)
    root = data_root / f"{ref.name}@{ref.version}"
    path = root / ref.system if ref.system else root
    found = [path] if path.is_file() else sorted(path.rglob("*.jsonl"))
    if not found:
        raise TrainingFailure("data", f"{text} is not on this worker: no .jsonl file under {path.name}.")
    return found


def _document(line: bytes, stage: str, place: str) -> Document:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise TrainingFailure("data", f"{place}: not JSON ({error}).") from error
    found = _text(value) if stage == "pretrain" else _conversation(value)
    if found is None:
        wanted = '{"text": "…"}' if stage == "pretrain" else '{"conversations": [{"role": "user", "content": "…"}, …]}'
        raise TrainingFailure("data", f"{place}: stage {stage} needs lines such as {wanted}.")
    return found


def _text(value: Json) -> str | None:
    text = value.get("text") if isinstance(value, Mapping) else None
    return text if isinstance(text, str) else None


def _conversation(value: Json) -> list[Message] | None:
    messages = value.get("conversations") if isinstance(value, Mapping) else None
    if not isinstance(messages, list) or not messages:
        return None
    is_whole = all(isinstance(one, Mapping) and isinstance(one.get("role"), str) for one in messages)
    return [_message(one) for one in messages] if is_whole else None


def _message(value: Mapping[str, Json]) -> Message:
    """Return a message without what is null: tables of conversations fill their columns with it."""
    return {"content": "", **{key: item for key, item in value.items() if item is not None}}


def texts(document: Document) -> Iterator[str]:
    """Yield what is said in a document."""
    if isinstance(document, str):
        yield document
    else:
        yield from (message["content"] for message in document if isinstance(message["content"], str))


def draw(document: Document, name: str) -> float:
    """Return a number in [0, 1) that belongs to a document's content and a name, and to nothing else."""
    text = document if isinstance(document, str) else json.dumps(document, sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(f"{name}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_set_aside(document: Document, fraction: float) -> bool:
    """Return whether a document belongs to the share of the training data that is set aside for validation.

    Its content decides: equal documents are on one side, and every replica holds back the same ones.
    """
    return draw(document, "validation") < fraction
