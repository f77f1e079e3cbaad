"""Tables are shown whole, on a screen of any width and to programs."""

import io
import re

import pytest
from rich.console import Console

from app.cli import screen

ROW = ("17", "vacancy in copper", "completed", "dataset:copper@1/held-out-strained", "1.140748", "caac59bea83a")


def shown(console: Console) -> list[str]:
    rows = screen.table("job", "name", "state", "on", "eV", "sha256", right=("job", "eV"))
    rows.add_row(*ROW)
    console.print(rows)
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue()).splitlines()


@pytest.mark.parametrize("width", [30, 60, 80])
def test_nothing_is_cut_off_on_a_narrow_screen(width: int) -> None:
    lines = shown(Console(file=io.StringIO(), width=width, force_terminal=True))
    assert max(map(len, lines)) <= width
    assert sorted("".join(lines).replace(" ", "")) == sorted("jobnamestateoneVsha256" + "".join(ROW).replace(" ", ""))


def test_programs_get_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = shown(screen.for_programs_whole(Console(file=io.StringIO())))
    assert re.split(" {2,}", lines[1].strip()) == list(ROW)


def test_a_width_that_somebody_wants_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    assert max(map(len, shown(screen.for_programs_whole(Console(file=io.StringIO()))))) <= 50
