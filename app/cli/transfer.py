"""A transfer plan in words and tables: how much of a base is kept, and what becomes of the rest."""

from collections import defaultdict
from collections.abc import Iterable

from rich.markup import escape

from app.cli.screen import out, table
from app.wire.transfer import PlannedTensor, TransferPlan

STYLES = {
    "copied": "green",
    "remapped": "cyan",
    "sliced": "cyan",
    "padded": "cyan",
    "refit": "cyan",
    "reinitialised": "yellow",
    "unused": "dim",
}
SHOWN_NAMES = 3


def print_plan(plan: TransferPlan) -> None:
    """Print a plan: the share kept, a line per component, a line per group of tensors that are not simply copied."""
    out().print(
        f"[bold]{escape(plan.base)}[/] [dim]sha256 {plan.sha256[:12]}[/]  {plan.mode}: {kept(plan)}", soft_wrap=True
    )
    rows = table("component", "parameters", "kept", "share", "tensors", right=("parameters", "kept", "share"))
    for share in plan.components:
        verbs = _verbs(tensor for tensor in plan.tensors if tensor.component == share.component)
        count = f"{share.parameters:,}", f"{share.kept:,}", _percent(share.kept, share.parameters)
        rows.add_row(escape(share.component), *count, verbs)
    out().print(rows)
    for tensors in _groups(plan).values():
        out().print(_line(tensors), soft_wrap=True)
    for change in plan.function_changes:
        out().print(f"  [yellow]same shape, different function[/]  {escape(change.message)}", soft_wrap=True)


def kept(plan: TransferPlan) -> str:
    """Return how much of the new model comes from the base, in words."""
    share = _percent(plan.kept, plan.parameters)
    return f"{plan.kept:,} of {plan.parameters:,} parameters kept ({share})"


def _percent(part: int, whole: int) -> str:
    """Return a share. What is not all is never shown as 100 %, and what is not nothing never as 0 %."""
    if not whole or part in (0, whole):
        return "–" if not whole else "0 %" if not part else "100 %"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.1f} %"


def _verbs(tensors: Iterable[PlannedTensor]) -> str:
    counts: dict[str, int] = defaultdict(int)
    for tensor in tensors:
        counts[tensor.verb] += 1
    return ", ".join(f"[{STYLES[verb]}]{count} {verb}[/]" for verb, count in counts.items())


def _groups(plan: TransferPlan) -> dict[tuple[str | None, ...], list[PlannedTensor]]:
    """Return the tensors that are not copied, together where verb, place and reason are the same."""
    groups: dict[tuple[str | None, ...], list[PlannedTensor]] = defaultdict(list)
    for tensor in plan.tensors:
        if tensor.verb != "copied":
            groups[tensor.verb, tensor.branch, tensor.component, tensor.reason, tensor.key].append(tensor)
    return groups


def _line(tensors: list[PlannedTensor]) -> str:
    first = tensors[0]
    where = f"{first.branch}: {first.component}" if first.branch else first.component
    names = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in tensors[:SHOWN_NAMES])
    more = f" and {len(tensors) - SHOWN_NAMES} more" if len(tensors) > SHOWN_NAMES else ""
    why = f": {first.reason}" if first.reason else ""
    key = f" ({first.key})" if first.key else ""
    return f"  [{STYLES[first.verb]}]{first.verb}[/]  {escape(where + why + key)}  [dim]{escape(names + more)}[/]"
