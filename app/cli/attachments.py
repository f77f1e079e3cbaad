"""Data that goes along with a submission: archives as they are, directories packed on the way."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from app.cli.data import packed
from app.cli.failures import usage
from app.wire.datasets import NAME_PATTERN

FilePart = tuple[str, tuple[str, IO[bytes]]]
"""A part of a multipart form: its field, and the file's name and content."""


@contextmanager
def attached(arguments: Sequence[str]) -> Iterator[list[FilePart]]:
    """Yield the form parts of `--data FILE`, `--data DIRECTORY` and `--data NAME=…`."""
    with ExitStack() as stack:
        yield [
            ("data", (_file_name(name, path), stack.enter_context(_opened(path))))
            for name, path in map(_split, arguments)
        ]


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
    try:
        return _pack(path) if path.is_dir() else path.open("rb")
    except OSError as error:
        raise usage(f"{path} cannot be read: {error.strerror}.", code="unreadable-file") from error


def _pack(directory: Path) -> IO[bytes]:
    # A form is sent with its length, so the tar must be complete before.
    file = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
    for chunk in packed(directory, lambda _: None):
        file.write(chunk)
    file.seek(0)
    return file
