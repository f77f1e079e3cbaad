"""`--base`, `--mode` and what belongs to them: the `start` of a submission, and which option said what."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.cli.failures import usage
from app.wire.submission import Start

DEFAULT_MODE = "finetune"
"""What people mean who name a base and no mode."""


@dataclass
class Starting:
    """The `start` of a submission; empty without a base."""

    start: dict[str, Any] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    """The option's text by JSON pointer into the submission, the most precise first."""


def read(
    *,
    base: str | None,
    mode: str | None,
    branch: Sequence[str] | None,
    fitting: Sequence[str] | None,
    on_mismatch: str | None,
    allow: Sequence[str] | None,
) -> Starting:
    """Return what the options say. Raises Failure for what cannot be meant."""
    found = Starting()
    _note(found, "base", base, [f"--base {base}"])
    _note(found, "mode", mode, [f"--mode {mode}"])
    _note(found, "branch", _by_task("--branch", branch), [f"--branch {text}" for text in branch or ()])
    _note(found, "fitting", _fitting(fitting), [f"--fitting {text}" for text in fitting or ()])
    _note(found, "on_mismatch", on_mismatch, [f"--on-mismatch {on_mismatch}"])
    for index, text in enumerate(allow or ()):
        found.options[f"/start/allow/{index}"] = f"--allow {text}"
    _note(found, "allow", list(allow or ()), [f"--allow {text}" for text in allow or ()])
    if found.start:
        found.options["/start"] = " ".join(dict.fromkeys(found.options.values()))
        found.start.setdefault("mode", DEFAULT_MODE)
    return found


def _note(found: Starting, key: str, value: Any, options: Sequence[str]) -> None:
    if value not in (None, []):
        found.start[key] = value
        found.options[f"/start/{key}"] = " ".join(options)


def _by_task(option: str, texts: Sequence[str] | None) -> str | dict[str, str] | None:
    """Return `VALUE`, or for several tasks `TASK=VALUE` as an object."""
    if not texts:
        return None
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    pairs = [text.partition("=") for text in texts]
    if any(not task or not value for task, _, value in pairs):
        raise usage(f"{option} {' '.join(texts)}: with several tasks, write {option} TASK=VALUE for each.")
    return {task: value for task, _, value in pairs}


def _fitting(texts: Sequence[str] | None) -> str | dict[str, str] | None:
    found = _by_task("--fitting", texts)
    for value in found.values() if isinstance(found, dict) else [found]:
        if value not in ("reuse", "new", None):
            raise usage(f"--fitting {value}: expected reuse or new.")
    return found


def words(start: Start, base: str | None) -> str:
    """Return how a job starts: `finetune from water@3`."""
    return f"{start.mode} from {base}" if base else "from scratch"
