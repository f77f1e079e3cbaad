"""Files of JSON lines, one line at a time: checked, and written anew in one canonical form, at constant memory."""

import io
import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from app.engines.intake.compression import compression_of, decompressed
from app.engines.intake.report import Report, refuse
from app.engines.minimind.intake.entries import Entry, Wrong, read_entry
from app.engines.minimind.intake.summary import Lengths
from app.wire.datasets import TextFile

MAX_LINE_BYTES = 64 << 20
SAMPLES = 3
SAMPLE_CHARACTERS = 600
SPLIT = "Write one JSON object on each line, separated by line feeds."


@dataclass
class Room:
    """Bytes that may still be kept, over all files."""

    left: int

    def take(self, size: int, shown: str) -> None:
        """Use some of it. Raises Refused when there is not so much left."""
        self.left -= size
        if self.left < 0:
            raise refuse(
                "dataset-too-large",
                f"{shown} would exceed what is accepted.",
                "Raise CAIRN_MAX_DATASET_BYTES on the server, or free space in its data directory.",
            )


class LineReader:
    """Checks one file line by line. What is wrong goes to the report, each with the file and the line's number."""

    def __init__(self, name: str, report: Report, lengths: Lengths, room: Room) -> None:
        self._name, self._report, self._lengths, self._room = name, report, lengths, room
        self._form: Literal["text", "conversations"] | None = None
        self._form_line = 0
        self._entries = self._turns = self._characters = 0
        self._samples: list[str] = []
        self._is_good = True

    def copy(self, source: Path, target: Path, name: str) -> TextFile | None:
        """Write the canonical form of a file and return what is in it; None when nothing of it is right.

        Raises:
            Refused: its compression is damaged, or a line is longer than accepted.
        """
        try:
            with decompressed(source, compression_of(source)) as stream, target.open("wb") as out:
                # Not every decompressor has lines.
                lines = io.BufferedReader(cast("io.RawIOBase", stream))
                for number, line in self._lines(lines):
                    self._copy_line(number, line, out)
        except (EOFError, lzma.LZMAError, zlib.error) as error:
            raise self._damaged(error) from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise self._damaged(error) from error
        if self._form is None:
            if self._is_good:
                self._report.problem("no-text", f"{self._name} holds no lines.", SPLIT)
            return None
        return TextFile(
            name=name,
            form=self._form,
            entries=self._entries,
            turns=self._turns,
            characters=self._characters,
            size=target.stat().st_size,
            samples=self._samples,
        )

    def _damaged(self, error: Exception) -> Exception:
        hint = "Compress it again, and upload it again."
        return refuse("archive-truncated", f"{self._name} is damaged or ends too early: {error}.", hint)

    def _lines(self, stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                message = f"{self._name}, line {number} is longer than {MAX_LINE_BYTES >> 20} MiB."
                raise refuse("line-too-long", message, SPLIT)
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line

    def _copy_line(self, number: int, line: bytes, out: IO[bytes]) -> None:
        if not line.strip():
            return
        try:
            entry = read_entry(line)
            self._check_form(number, entry)
            canonical = json.dumps(entry.value, ensure_ascii=False, separators=(",", ":")).encode()
        except Wrong as wrong:
            self._is_good = False
            self._report.problem(wrong.code, f"{self._name}, line {number}: {wrong.message}.", wrong.hint)
            return
        self._room.take(len(canonical) + 1, f"{self._name}, line {number},")
        out.write(canonical + b"\n")
        self._count(entry, canonical)

    def _check_form(self, number: int, entry: Entry) -> None:
        if self._form is None:
            self._form, self._form_line = entry.form, number
        elif entry.form != self._form:
            raise Wrong(
                "mixed-forms",
                f"has {_called(entry.form)}, but line {self._form_line} has {_called(self._form)}",
                "Put texts and conversations into files of their own: texts are for pretraining, conversations for sft.",
            )

    def _count(self, entry: Entry, canonical: bytes) -> None:
        self._entries += 1
        self._turns += entry.turns
        self._characters += entry.characters
        self._lengths.add(entry.characters)
        if len(self._samples) < SAMPLES:
            self._samples.append(_shortened(canonical.decode()))
        for key in entry.unknown:
            self._report.warn(f"{self._name}: the key {key!r} of some lines is left out.")
        for key in entry.special:
            self._report.warn(
                f"{self._name}: some messages have {key!r}, which only a tokenizer's own chat template may show to a model."
            )


def _called(form: str) -> str:
    return {"text": 'a "text"', "conversations": '"conversations"'}[form]


def _shortened(text: str) -> str:
    return text if len(text) <= SAMPLE_CHARACTERS else f"{text[:SAMPLE_CHARACTERS]} …"
