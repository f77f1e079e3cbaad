"""What was found in text, as a summary."""

from collections import Counter
from collections.abc import Sequence

from app.wire.datasets import Histogram, TextFile, TextSummary


class Lengths:
    """How many entries have how many characters, in bins that double."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, characters: int) -> None:
        """Count one entry."""
        self._counts[characters.bit_length()] += 1

    def histogram(self) -> Histogram:
        """Return the bins between the shortest entry and the longest."""
        first, last = min(self._counts, default=1), max(self._counts, default=1)
        counts = [self._counts[bits] for bits in range(first, last + 1)]
        return Histogram(edges=[float(1 << bits) / 2 for bits in range(first, last + 2)], counts=counts)


def summarise(files: Sequence[TextFile], lengths: Lengths) -> TextSummary:
    """Return what a page shows: sums, and each file."""
    return TextSummary(
        files=list(files),
        documents=sum(file.entries for file in files if file.form == "text"),
        conversations=sum(file.entries for file in files if file.form == "conversations"),
        turns=sum(file.turns for file in files),
        characters=sum(file.characters for file in files),
        size=sum(file.size for file in files),
        lengths=lengths.histogram(),
    )
