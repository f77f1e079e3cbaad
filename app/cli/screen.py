"""What commands print: tables, units, problems with the line they are about."""

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.cli.failures import Failure, Fault
from app.cli.places import Document, excerpt

STATE_STYLES = {
    "checking": "cyan",
    "queued": "cyan",
    "running": "blue",
    "stopping": "yellow",
    "paused": "yellow",
    "completed": "green",
    "failed": "red",
    "cancelled": "dim",
    "inspecting": "cyan",
    "ready": "green",
    "refused": "red",
}

_SPARKS = "▁▂▃▄▅▆▇█"


UNBROKEN = 10_000
"""Columns of what is no terminal: a file or a program gets every line whole."""


@cache
def out() -> Console:
    """Return the console of standard output."""
    return for_programs_whole(Console(highlight=False, soft_wrap=False))


@cache
def err() -> Console:
    """Return the console of standard error."""
    return for_programs_whole(Console(stderr=True, highlight=False, soft_wrap=True))


def for_programs_whole(console: Console) -> Console:
    """Return a console that breaks no line, unless it writes to a terminal or `COLUMNS` says how wide it is."""
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = UNBROKEN
    return console


def print_json(value: Any) -> None:
    """Print a value for a program: indented JSON, and nothing else, on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def print_json_line(value: Any) -> None:
    """Print one JSON object on one line, at once, for a program that reads along."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table; columns named in `right` are aligned to the right.

    On a narrow screen cells go on in a further line, those of the widest columns first: nothing is cut off.
    """
    result = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return result


def state(name: str) -> str:
    """Return the state of a job or model in its colour."""
    return f"[{STATE_STYLES.get(name, 'default')}]{name}[/]"


def duration(seconds: float | None) -> str:
    """Return a duration in at most two units: `42 s`, `3 min 10 s`, `2 h 05 min`, `3 d 04 h`."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def size(count: float) -> str:
    """Return a number of bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def ago(moment: datetime) -> str:
    """Return how long ago a moment was."""
    return duration((datetime.now(UTC) - moment).total_seconds()) + " ago"


def counted(count: int, what: str) -> str:
    """Return a number of things in words: `1 model`, `2 models`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def quantity(value: float | None, unit: str = "") -> str:
    """Return a metric's value with its unit; of electronvolts thousandths, which is how errors are read."""
    if value is None:
        return "non-finite"
    if factor := _milli(unit):
        return f"{value * factor:.4g}{_shown(unit)}"
    if value.is_integer() and abs(value) < 1e6:  # a count
        return f"{value:.0f}{_shown(unit)}"
    return f"{value:.3g}{_shown(unit)}"


def _milli(unit: str) -> int:
    """Return by how much a value is multiplied that is read in thousandths of its unit; else 0."""
    return 1000 if unit.startswith("eV") else 0


def _shown(unit: str) -> str:
    return f" {'m' if _milli(unit) else ''}{unit}" if unit else ""


def spread(mean: float, std: float | None, unit: str = "") -> str:
    """Return a mean and its standard deviation with their unit, as `quantity` has it: `81.2 ± 3.1 meV/Å`."""
    factor, unit = _milli(unit) or 1, _shown(unit)
    mean *= factor
    if std is None:
        return f"{mean:.4g}{unit}"
    std *= factor
    places = _places(std)
    if places is None or abs(mean) >= 1e6:
        return f"{mean:.4g} ± {std:.2g}{unit}"
    return f"{mean:.{places}f} ± {std:.{places}f}{unit}"


def _places(std: float) -> int | None:
    """Return the decimal places that show two digits of a spread; None when that takes a power of ten."""
    from math import floor, log10

    places = 1 - floor(log10(std)) if std > 0 else None
    return None if places is None or places > 5 else max(0, places)


def interval(low: float, high: float, unit: str = "") -> str:
    """Return a range of a metric as `quantity` has it, without the unit: `78.1 … 84.3`."""
    factor = _milli(unit) or 1
    return f"{low * factor:.4g} … {high * factor:.4g}"


def standing(step: int, total_steps: int) -> str:
    """Return `400/1000`, or `400` while nobody knows yet how many steps there will be."""
    return f"{step}/{total_steps}" if total_steps else str(step)


def sparkline(values: Sequence[float | None], width: int = 24) -> str:
    """Return values as a row of bars on a logarithmic scale, which is how losses fall."""
    from math import log10

    logs = [log10(value) for value in values if value is not None and value > 0][-width:]
    if len(logs) < 2:
        return ""
    low, span = min(logs), (max(logs) - min(logs)) or 1.0
    return "".join(_SPARKS[round((value - low) / span * (len(_SPARKS) - 1))] for value in logs)


def print_failure(failure: Failure, *, as_json: bool) -> None:
    """Print why a command ended, on standard error: as words, or as the server's own JSON shape."""
    if as_json:
        body = failure.faults[0]._asdict() | {"problems": [fault._asdict() for fault in failure.faults]}
        sys.stderr.write(json.dumps(body, ensure_ascii=False) + "\n")
        return
    for fault in failure.faults:
        print_fault(fault, failure.document)
    if len(failure.faults) > 1:
        err().print(f"[red]{len(failure.faults)} problems.[/]")


def print_fault(fault: Fault, document: Document | None = None, *, style: str = "red", word: str = "error") -> None:
    """Print one problem: what, where (with the line of the file), and what to do."""
    err().print(f"[{style} bold]{word}[/] [dim]{escape(fault.code)}[/]  {escape(fault.message)}")
    if fault.pointer:
        _print_place(fault.pointer, document)
    if fault.hint:
        err().print(f"  [cyan]→[/] {escape(fault.hint)}")


def _print_place(pointer: str, document: Document | None) -> None:
    in_config = pointer == "/config" or pointer.startswith("/config/")
    inner = pointer.removeprefix("/config")
    option = document.override(pointer) if document else None
    place = document.place(inner) if document and in_config else None
    if document is None or place is None or option:
        whole = document.name if document and not inner else None
        err().print(f"  at {escape(option or whole or pointer)}", style="dim")
        return
    err().print(f"  {escape(document.name)}, line {place.line}, {escape(inner)}", style="dim")
    for line in excerpt(document.text, place):
        err().print("  " + escape(line), style="dim")
