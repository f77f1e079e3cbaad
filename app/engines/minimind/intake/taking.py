"""One intake of MiniMind data: find the files, check every line of them or the tokenizer, pack what stands."""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.engines.intake.archive import CHUNK_BYTES, collect
from app.engines.intake.pack import File, pack
from app.engines.intake.report import ARCHIVE_NAME, Order, Outcome, Report, refuse
from app.engines.minimind.intake import tokenizers
from app.engines.minimind.intake.lines import LineReader, Room
from app.engines.minimind.intake.summary import Lengths, summarise
from app.wire.datasets import DatasetSummary

_LINES = re.compile(r"\.(jsonl|ndjson)(\.(gz|bz2|xz|zst))?$")
TOKENIZER = "tokenizer.json"
HINT = 'Send .jsonl files of {"text": "…"} or {"conversations": [{"role": "user", "content": "…"}, …]} lines, or a tokenizer.json.'


def take_in(order: Order, report: Report) -> Outcome:
    """Unpack or copy, check every line, and pack what stands in its canonical form."""
    if order.type_map is not None:
        raise refuse("no-type-map", "Text has no type map.", "Leave `type_map` out, or name the engine of your data.")
    root, kept = order.work / "data", order.work / "kept"
    root.mkdir()
    kept.mkdir()
    single = collect(order, root)
    found = {_single_name(order, single): single} if single else named_files(root)
    if TOKENIZER in (name.rsplit("/", 1)[-1] for name in found):
        summary = tokenizers.take_in(found, kept, report)
    else:
        summary = take_in_text(found, kept, Room(order.max_bytes), report)
    report.stop_if_wrong()
    shutil.rmtree(root)
    digest = pack(kept_files(kept), order.work / ARCHIVE_NAME)
    shutil.rmtree(kept)
    return Outcome(warnings=report.warnings, digest=digest, summary=summary)


def _single_name(order: Order, path: Path) -> str:
    """Return the name of a file that was sent alone: its own, with the ending that its content needs."""
    name = (order.file_name if path == order.source else path.name).rsplit("/", 1)[-1]
    if name == TOKENIZER or _LINES.search(name):
        return name
    return f"{name.removesuffix('.json').removesuffix('.txt')}.jsonl"


def named_files(root: Path) -> dict[str, Path]:
    """Return every file below `root` by its path below the folder that holds them all."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    parents = [path.relative_to(root).parts[:-1] for path in paths]
    shared = 0
    while parents and all(len(parts) > shared and parts[shared] == parents[0][shared] for parts in parents):
        shared += 1
    return {"/".join(path.relative_to(root).parts[shared:]): path for path in paths}


def take_in_text(found: Mapping[str, Path], kept: Path, room: Room, report: Report) -> DatasetSummary:
    """Check every file of JSON lines and write its canonical form below `kept`. Raises Refused when there is none."""
    wanted = {name: path for name, path in found.items() if _LINES.search(name)}
    if not wanted:
        seen = ", ".join(list(found)[:5]) or "nothing"
        raise refuse("no-text", f"There is no file of JSON lines; there is: {seen}.", HINT)
    _warn_of_ignored([name for name in found if name not in wanted], report)
    lengths = Lengths()
    files = []
    for name, path in sorted(wanted.items()):
        target = kept / _LINES.sub(".jsonl", name)
        if target.exists():
            raise refuse("file-twice", f"{name} is there both compressed and as it is.", "Leave one of them out.")
        target.parent.mkdir(parents=True, exist_ok=True)
        file = LineReader(name, report, lengths, room).copy(path, target, str(target.relative_to(kept)))
        files += [file] if file else []
    return DatasetSummary(text=summarise(files, lengths)) if files else DatasetSummary()


def _warn_of_ignored(names: list[str], report: Report) -> None:
    if names:
        shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
        what = "1 file that holds" if len(names) == 1 else f"{len(names)} files that hold"
        report.warn(f"Left out: {what} no JSON lines ({shown})")


def kept_files(root: Path) -> Iterator[File]:
    """Yield every file below `root` for the archive."""
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        yield str(path.relative_to(root)), path.stat().st_size, _content(path)


def _content(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
