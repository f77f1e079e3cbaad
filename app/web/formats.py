"""Numbers, sizes, times and documents as people read them: the filters of the templates."""

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape


def significant(value: float | None) -> str:
    """Return four significant digits, in scientific notation outside 0.001…100000; `–` for nothing."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"


def energy(value: float | None) -> str:
    """Return a total energy in eV per atom to 0.1 meV: energies of one material differ late in their digits."""
    return "–" if value is None else f"{value:.4f}"


def count(value: int) -> str:
    """Return an integer with separators: `12,000`."""
    return f"{value:,}"


def share(part: int, whole: int) -> str:
    """Return a share in per cent, rounded down: only all of it is 100 %. `–` of nothing."""
    if whole == 0:
        return "–"
    return f"{math.floor(1000 * part / whole) / 10:g} %"


def shape(value: list[int]) -> str:
    """Return a tensor's shape: `240 × 240`; `?` stands for what is known only once the data has been looked at."""
    return " × ".join("?" if extent < 0 else str(extent) for extent in value) or "scalar"


def size(value: int) -> str:
    """Return a number of bytes in binary units."""
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{value} B" if unit == "B" else f"{amount:.{1 if amount < 10 else 0}f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units: `2 h 05 min`."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    s = max(0, round(seconds))
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    if s < 86400:
        return f"{s // 3600} h {s % 3600 // 60:02d} min"
    return f"{s // 86400} d {s % 86400 // 3600} h"


def ago(at: datetime) -> str:
    """Return how long ago something was; the browser keeps it up to date."""
    seconds = max(0.0, (datetime.now(UTC) - at).total_seconds())
    if seconds < 10:
        return "just now"
    for limit, unit, divisor in ((60, "s", 1), (3600, "min", 60), (86400, "h", 3600)):
        if seconds < limit:
            return f"{int(seconds // divisor)} {unit} ago"
    return f"{int(seconds // 86400)} d ago"


def since(at: datetime) -> str:
    """Return how long something has been going on."""
    return duration((datetime.now(UTC) - at).total_seconds())


def moment(at: datetime) -> str:
    """Return a point in time, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(at: datetime) -> str:
    """Return a point in time as `<time datetime>` wants it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def document(value: Any) -> str:
    """Return a JSON document, indented, lists of plain values on one line."""
    return _document(value, 0)


def _document(value: Any, depth: int) -> str:
    inner = "    " * (depth + 1)
    if isinstance(value, dict) and value:
        lines = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {_document(item, depth + 1)}" for key, item in value.items()
        ]
        return "{\n" + ",\n".join(lines) + "\n" + "    " * depth + "}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        lines = [inner + _document(item, depth + 1) for item in value]
        return "[\n" + ",\n".join(lines) + "\n" + "    " * depth + "]"
    return literal(value)


def literal(value: Any) -> str:
    """Return a JSON value on one line."""
    return json.dumps(value, ensure_ascii=False)


def ticks(text: str) -> Markup:
    """Return text as HTML in which what stands between backticks is code, and everything is escaped."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def headline(summary: str) -> str:
    """Return what a summary says before its first colon or semicolon: `diverged at step 1,240`. As in `format.ts`."""
    return re.split("[:;]", summary, maxsplit=1)[0]


def particulars(summary: str) -> str:
    """Return what a summary says after its headline."""
    return "".join(re.split("[:;]", summary, maxsplit=1)[1:]).strip()


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return the leaves of a nested document as (path, value) pairs: `cpu.model`, `AMD EPYC`."""
    if isinstance(value, dict) and value:
        return [pair for key, item in value.items() for pair in flat(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return [pair for index, item in enumerate(value) for pair in flat(item, f"{prefix}[{index}]")]
    return [(prefix, value if isinstance(value, str) else literal(value))]


FILTERS = {
    "flat": flat,
    "headline": headline,
    "particulars": particulars,
    "ticks": ticks,
    "significant": significant,
    "energy": energy,
    "count": count,
    "share": share,
    "shape": shape,
    "size": size,
    "duration": duration,
    "ago": ago,
    "since": since,
    "moment": moment,
    "iso": iso,
    "document": document,
    "literal": literal,
}
