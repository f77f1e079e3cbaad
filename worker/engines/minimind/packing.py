"""Documents into rows of equal length, with as little padding as may be. The order of documents decides everything."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Piece = tuple[Array, Array]
"""Tokens, and a flag byte for each."""

START, COUNTS = 1, 2
"""START: a document, or what a row has of it, begins here. COUNTS: the token is to be learned."""

_OPEN_ROWS = 256
_SORTED_AT_ONCE = 1024


def end_to_end(pieces: Iterable[Piece], row_length: int, pad: int) -> Iterator[Piece]:
    """Yield rows of documents one after the other; what does not fit goes on in the next row, as one of its own.

    Only the last row has padding. A row without a token to learn is left out, as a batch of such rows alone has no loss: the
    last row, when it holds one token, and others where rows are of two or three.
    """
    row = _Row(row_length, pad)
    for tokens, flags in pieces:
        done = 0
        while done < len(tokens):
            done += row.put(tokens[done:], flags[done:])
            if not row.room:
                if row.teaches:
                    yield row.filled()
                row = _Row(row_length, pad)
    if row.teaches:
        yield row.filled()


def first_fit(pieces: Iterable[Piece], row_length: int, pad: int) -> Iterator[Piece]:
    """Yield rows of whole documents: each goes into the first row that has room for it, long ones before short ones.

    Some hundred rows are open at a time; then the fullest is closed. No piece may be longer than a row.
    """
    rows: list[_Row] = []
    rooms = np.empty(0, dtype=np.int64)
    for tokens, flags in _longest_first(pieces):
        fits = np.flatnonzero(rooms >= len(tokens))
        place = int(fits[0]) if fits.size else len(rows)
        if place == len(rows):
            rows.append(_Row(row_length, pad))
            rooms = np.append(rooms, row_length)
        rows[place].put(tokens, flags)
        rooms[place] = rows[place].room
        if len(rows) > _OPEN_ROWS or not rooms[place]:
            closed = int(np.argmin(rooms))
            yield rows.pop(closed).filled()
            rooms = np.delete(rooms, closed)
    for row in rows:
        yield row.filled()


def _longest_first(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield pieces sorted by length, so many at a time."""
    remaining = iter(pieces)
    while portion := list(islice(remaining, _SORTED_AT_ONCE)):
        yield from sorted(portion, key=lambda piece: -len(piece[0]))


class _Row:
    """A row that is being filled."""

    def __init__(self, length: int, pad: int) -> None:
        self._tokens = np.full(length, pad, dtype=np.uint32)
        self._flags = np.zeros(length, dtype=np.uint8)
        self.room = length

    def put(self, tokens: Array, flags: Array) -> int:
        """Add as many tokens of a document as there is room for, and return how many."""
        start = len(self._tokens) - self.room
        count = min(len(tokens), self.room)
        self._tokens[start : start + count] = tokens[:count]
        self._flags[start : start + count] = flags[:count]
        # Nothing stands before it in this row: it is no document's continuation, and cannot be predicted.
        self._flags[start] = START
        self.room -= count
        return count

    @property
    def teaches(self) -> bool:
        """Whether there is a token to learn in it."""
        return bool((self._flags & COUNTS).any())

    def filled(self) -> Piece:
        """Return the row; its padding is a document of its own."""
        if self.room:
            self._flags[-self.room] = START
        return self._tokens, self._flags
