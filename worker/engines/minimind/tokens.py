"""Rows of tokens: made once of a corpus, kept as one Arrow file, mapped into memory while they are trained on.

Each row has `tokens` and, for each token, `flags`: START where a document begins, COUNTS where the token is to be learned.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from worker.engines.minimind.corpus import Document
from worker.engines.minimind.packing import COUNTS, START, Piece, end_to_end, first_fit
from worker.engines.minimind.tokenizer import Tokenizer, answers

Array = NDArray[Any]

_ROWS_PER_BATCH = 1024
_DOCUMENTS_AT_ONCE = 1000
_CHARS_AT_ONCE = 4 << 20
_REPORT_S = 30.0


@dataclass
class Counts:
    """What became of the documents of a corpus."""

    documents: int = 0
    cut: int = 0
    """Conversations longer than a row: their ends are lost."""
    unanswered: int = 0
    """Conversations without a token to learn: left out."""
    tokens: int = 0
    rows: int = 0
    row_length: int = 0

    @property
    def padding(self) -> float:
        """Share of the rows that no document fills."""
        # A last token that has a row to itself is in none: see `packing.end_to_end`.
        return max(0.0, 1.0 - self.tokens / (self.rows * self.row_length)) if self.rows else 0.0


def make(
    documents: Iterable[tuple[Document, int]],
    tokenizer: Tokenizer,
    stage: str,
    row_length: int,
    path: Path,
    report: Callable[[int], None],
) -> Counts:
    """Write the rows of documents into a file, in constant memory; `report` gets the bytes read so far, now and then."""
    counts = Counts(row_length=row_length)
    pieces = _pieces(documents, tokenizer, stage, row_length, counts, report)
    rows = (
        end_to_end(pieces, row_length, tokenizer.pad)
        if stage == "pretrain"
        else first_fit(pieces, row_length, tokenizer.pad)
    )
    kind = pa.uint16() if tokenizer.size <= 1 << 16 else pa.uint32()
    schema = pa.schema({"tokens": pa.list_(kind, row_length), "flags": pa.list_(pa.uint8(), row_length)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in _batches(rows, _ROWS_PER_BATCH):
            counts.rows += len(batch)
            columns = [
                _column([tokens for tokens, _ in batch], kind, row_length),
                _column([flags for _, flags in batch], pa.uint8(), row_length),
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return counts


def _pieces(
    documents: Iterable[tuple[Document, int]],
    tokenizer: Tokenizer,
    stage: str,
    row_length: int,
    counts: Counts,
    report: Callable[[int], None],
) -> Iterator[Piece]:
    """Yield the tokens of each document, with flags."""
    encode = _texts if stage == "pretrain" else _conversations
    size, reported = 0, time.monotonic()
    for batch in _portions(documents):
        for piece in encode([document for document, _ in batch], tokenizer):
            counts.documents += 1
            tokens, flags = piece
            if stage != "pretrain":
                counts.cut += len(tokens) > row_length
                tokens, flags = tokens[:row_length], flags[:row_length]
                if not (flags & COUNTS).any():
                    counts.unanswered += 1
                    continue
            counts.tokens += len(tokens)
            yield tokens, flags
        size += sum(read for _, read in batch)
        if time.monotonic() - reported > _REPORT_S:
            reported = time.monotonic()
            report(size)


def _texts(texts: Sequence[Any], tokenizer: Tokenizer) -> Iterator[Piece]:
    """Yield texts as bos … eos; every token is learned but the first, which nothing comes before."""
    before = [] if tokenizer.bos is None else [tokenizer.bos]
    for found in tokenizer.encode(texts):
        tokens = np.array([*before, *found.ids, tokenizer.eos], dtype=np.uint32)
        flags = np.full(len(tokens), COUNTS, dtype=np.uint8)
        flags[0] = START
        yield tokens, flags


def _conversations(conversations: Sequence[Any], tokenizer: Tokenizer) -> Iterator[Piece]:
    """Yield conversations; only what the assistant says is learned, with the token that ends it."""
    rendered = [tokenizer.render(messages) for messages in conversations]
    for text, found in zip(rendered, tokenizer.encode(rendered), strict=True):
        starts = np.array([start for start, _ in found.offsets], dtype=np.int64)
        flags = np.zeros(len(starts), dtype=np.uint8)
        for first, end in answers(text):
            flags[np.searchsorted(starts, first) : np.searchsorted(starts, end)] = COUNTS
        flags[:1] = START
        yield np.array(found.ids, dtype=np.uint32), flags


def _portions(documents: Iterable[tuple[Document, int]]) -> Iterator[list[tuple[Document, int]]]:
    """Yield documents a thousand at a time, or fewer when they are long."""
    batch: list[tuple[Document, int]] = []
    size = 0
    for document, read in documents:
        batch.append((document, read))
        size += read
        if len(batch) >= _DOCUMENTS_AT_ONCE or size >= _CHARS_AT_ONCE:
            yield batch
            batch, size = [], 0
    yield batch


def _batches(rows: Iterable[Piece], count: int) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    for row in rows:
        batch.append(row)
        if len(batch) == count:
            yield batch
            batch = []
    if batch:
        yield batch


def _column(rows: Sequence[Array], kind: pa.DataType, row_length: int) -> pa.Array:
    flat = np.concatenate(rows).astype(kind.to_pandas_dtype())
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), row_length)


class Rows:
    """The rows of a file, in memory only as far as they are looked at."""

    def __init__(self, path: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.row_length: int = self._reader.schema.field("tokens").type.list_size
        last = self._reader.num_record_batches - 1
        self.count: int = last * _ROWS_PER_BATCH + self._reader.get_batch(last).num_rows if last >= 0 else 0

    def take(self, rows: Sequence[int]) -> tuple[Array, Array, Array]:
        """Return tokens, positions and targets of rows, each (rows × length) of int64.

        Positions begin at 0 with every document. Target t is token t + 1 where it is to be learned, else -100.
        """
        found = [self._row(row) for row in rows]
        tokens = np.stack([own for own, _ in found]).astype(np.int64)
        flags = np.stack([own for _, own in found])
        return tokens, _positions(flags), _targets(tokens, flags)

    def _row(self, row: int) -> Piece:
        number, place = divmod(row, _ROWS_PER_BATCH)
        batch = self._reader.get_batch(number)
        return self._part(batch, "tokens", place), self._part(batch, "flags", place)

    def _part(self, batch: pa.RecordBatch, name: str, place: int) -> Array:
        flat: Array = batch.column(name).values.to_numpy(zero_copy_only=True)
        return flat[place * self.row_length : (place + 1) * self.row_length]


def _positions(flags: Array) -> Array:
    places = np.broadcast_to(np.arange(flags.shape[1], dtype=np.int64), flags.shape)
    begun = np.maximum.accumulate(np.where(flags & START, places, 0), axis=1)
    return places - begun


def _targets(tokens: Array, flags: Array) -> Array:
    targets = np.full_like(tokens, -100)
    targets[:, :-1] = np.where(flags[:, 1:] & COUNTS, tokens[:, 1:], -100)
    return targets
