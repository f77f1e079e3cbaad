"""Data that goes along with a submission: archives as they are, directories packed on the way, large ones ahead of it."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from app.cli.api import Api
from app.cli.uploading import Source, packed, readable, send_in_pieces
from app.wire.datasets import NAME_PATTERN

FilePart = tuple[str, tuple[str, IO[bytes]]]
"""A part of a multipart form: its field, and the file's name and content."""


@dataclass
class Attached:
    """What goes along: small files as parts of the form, large ones as the uploads that they are already."""

    files: list[FilePart] = field(default_factory=list)
    uploads: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def attached(api: Api, arguments: Sequence[str]) -> Iterator[Attached]:
    """Yield what becomes of `--data FILE`, `--data DIRECTORY` and `--data NAME=…`; large ones are sent now."""
    found = Attached()
    with ExitStack() as stack:
        for name, path in map(_split, arguments):
            with readable(path):
                source, file_name = Source(path), _file_name(name, path)
                if source.is_large:
                    found.uploads.append({"upload": send_in_pieces(api, source), "filename": file_name})
                else:
                    found.files.append(("data", (file_name, stack.enter_context(_opened(path)))))
        yield found


def _split(argument: str) -> tuple[str | None, Path]:
    name, equals, path = argument.partition("=")
    if equals and re.match(NAME_PATTERN, name) and not Path(argument).exists():
        return name, Path(path)
    return None, Path(argument)


def _file_name(name: str | None, path: Path) -> str:
    """Return what the upload is called: the server names the dataset after it and looks at its ending."""
    if path.is_dir():
        return f"{name or path.resolve().name}.tar"
    endings = re.search(r"(\.tar)?\.[A-Za-z0-9]+$", path.name)
    return name + (endings[0] if endings else "") if name else path.name


def _opened(path: Path) -> IO[bytes]:
    return _pack(path) if path.is_dir() else path.open("rb")


def _pack(directory: Path) -> IO[bytes]:
    # A form is sent with its length, so the tar must be complete before.
    file = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
    for chunk in packed(directory):
        file.write(chunk)
    file.seek(0)
    return file
