"""The plan itself: every tensor of the new model, and every one of the base, gets its verb."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.engines.base import Base
from app.engines.deepmd.base_layer import branch_of
from app.engines.deepmd.transfer.fates import Fate, Pair
from app.engines.deepmd.transfer.names import SINGLE, Name
from app.engines.deepmd.transfer.refusals import WORDS
from app.engines.deepmd.transfer.sections import sections
from app.engines.transfer.assembly import assembled
from app.engines.transfer.refusals import Deviation, is_accepted, refuse
from app.engines.transfer.sections import submitted
from app.wire.models import BranchFacts, Inventory, TensorFacts
from app.wire.problems import Problem
from app.wire.resolution import Origin
from app.wire.submission import Start
from app.wire.transfer import FunctionChange, PlannedTensor, TransferPlan

Json = Any


def plan(
    config: Mapping[str, Json], origins: Mapping[str, Origin], start: Start, base: Base, inventory: Inventory
) -> TransferPlan | list[Problem]:
    """Say what becomes of every tensor, or why that may not be. Pointers are into the submission."""
    work = _Work(start, base, _pairs(config, start, base))
    fates = [*work.of_the_new_model(inventory), *work.of_the_base()]
    refused = [
        (fate.tensor, fate.deviation) for fate in fates if fate.deviation and not is_accepted(fate.deviation, start)
    ]
    problems = refuse(refused, origins, start, base.name, WORDS) + work.conflicts
    problems += _preset_biases(work.pairs, origins)
    return problems or assembled(start, base, [fate.tensor for fate in fates], work.function_changes(fates))


def _pairs(config: Mapping[str, Json], start: Start, base: Base) -> dict[str, Pair]:
    """Return, by the branch that names of tensors have, each task and what it starts from."""
    pairs = {}
    for task, section in sections(config).items():
        branch = branch_of(base.facts, start, task)
        assert branch is not None, f"resolution has refused a base without a branch for task {task!r}"
        fitting = start.fitting.get(task) if isinstance(start.fitting, dict) else start.fitting
        tensors = _tensors(base.facts.tensors, branch)
        pairs[task or SINGLE] = Pair(section, branch, tensors, base.name, start.mode, fitting == "new")
    return pairs


def _tensors(tensors: list[TensorFacts], branch: BranchFacts) -> dict[str, TensorFacts]:
    prefix = f"model.{branch.name or SINGLE}."
    return {tensor.name: tensor for tensor in tensors if tensor.name.startswith(prefix)}


def _preset_biases(pairs: Mapping[str, Pair], origins: Mapping[str, Origin]) -> list[Problem]:
    """Refuse what DeePMD-kit 3.2.0 gets wrong: it adds a preset bias to the base's (its pull request 6022)."""
    problems = []
    for pair in pairs.values():
        preset = pair.section.model.get("preset_out_bias")
        if preset is None or pair.mode != "finetune" or pair.is_new_fitting:
            continue
        at = next(at for at in pair.section.values if at.startswith("/preset_out_bias"))
        message = (
            f"{pair.section.name('/preset_out_bias')} would be added to the output bias of {pair.base_name} "
            "instead of taking its place: DeePMD-kit 3.2.0 does so in a fine-tune"
        )
        hint = 'Remove it, or take a new fitting net: "fitting": "new" under start.'
        place = submitted(origins, pair.section.pointer(at)) or "/config" + pair.section.pointer(at)
        problems.append(Problem(code="unsupported", message=message, pointer=place, hint=hint))
    return problems


@dataclass
class _Work:
    start: Start
    base: Base
    pairs: dict[str, Pair]

    def __post_init__(self) -> None:
        self._conflicts: dict[tuple[str, str], Problem] = {}
        self._reshaped: dict[str, Deviation] = {}
        self._used: set[str] = set()
        self._canonical = {tensor.name: tensor.alias_of or tensor.name for tensor in self.base.facts.tensors}

    @property
    def conflicts(self) -> list[Problem]:
        """Parts that two tasks share and would start differently."""
        return list(self._conflicts.values())

    def of_the_new_model(self, inventory: Inventory) -> Iterator[Fate]:
        """Yield the fate of every tensor, shared ones once."""
        aliases: dict[str, list[str]] = {}
        for tensor in inventory.tensors:
            if tensor.alias_of is not None:
                aliases.setdefault(tensor.alias_of, []).append(tensor.name)
        for tensor in inventory.tensors:
            if tensor.alias_of is None:
                fate = self._fate(tensor, tensor.name)
                self._check_agreement(tensor, fate, aliases.get(tensor.name, []))
                fate.tensor.aliases = aliases.get(tensor.name, [])
                if fate.tensor.source is not None:
                    self._used.add(self._canonical[fate.tensor.source])
                elif fate.deviation and fate.deviation.counterpart:
                    self._reshaped[self._canonical[fate.deviation.counterpart.name]] = fate.deviation
                yield fate

    def _fate(self, tensor: TensorFacts, text: str) -> Fate:
        name = Name.parse(text)
        return self.pairs[name.branch].fate(tensor, name)

    def _check_agreement(self, tensor: TensorFacts, fate: Fate, aliases: list[str]) -> None:
        """Refuse a part that two tasks share and want from different places."""
        own = Name.parse(tensor.name).branch
        for alias in aliases:
            other = Name.parse(alias).branch
            if other == own or "._networks." in alias:
                continue
            wanted = self._fate(tensor, alias).tensor
            if (wanted.verb, self._place(wanted)) != (fate.tensor.verb, self._place(fate.tensor)):
                self._report_conflict(own, other, tensor.name)
                return

    def _place(self, tensor: PlannedTensor) -> str | None:
        return self._canonical[tensor.source] if tensor.source else None

    def _report_conflict(self, own: str, other: str, tensor: str) -> None:
        message = (
            f"the tasks {own} and {other} share tensors ({tensor}, …), but would start them differently: "
            f"{own} from {self._beginning(own)}, {other} from {self._beginning(other)}"
        )
        hint = "Give both tasks the same branch and the same choice of fitting, or let them share less."
        self._conflicts.setdefault(
            (own, other), Problem(code="transfer-conflict", message=message, pointer="/start", hint=hint)
        )

    def _beginning(self, task: str) -> str:
        pair = self.pairs[task]
        branch = f"branch {pair.branch.name}" if pair.branch.name else "the only branch"
        return f"{branch} with {'a new' if pair.is_new_fitting else 'its'} fitting net"

    def of_the_base(self) -> Iterator[Fate]:
        """Yield the fate of every tensor of the base that the new model has no use for, shared ones once."""
        names: dict[str, list[str]] = {}
        for text, canonical in self._canonical.items():
            if "._networks." not in text:
                names.setdefault(canonical, []).append(text)
        by_branch = {pair.branch.name or SINGLE: pair for pair in reversed(self.pairs.values())}
        for tensor in self.base.facts.tensors:
            if tensor.alias_of is not None or tensor.name in self._used:
                continue
            found = [Name.parse(text) for text in names.get(tensor.name, [tensor.name])]
            name = next((name for name in found if name.branch in by_branch), None)
            reshaped = self._reshaped.get(tensor.name)
            yield by_branch[name.branch].unused(tensor, name, reshaped) if name else self._of_another_branch(tensor)

    def _of_another_branch(self, tensor: TensorFacts) -> Fate:
        name = Name.parse(tensor.name)
        return Fate(
            PlannedTensor(
                name=tensor.name,
                verb="unused",
                component=name.component,
                branch=name.branch,
                shape=tensor.shape,
                dtype=tensor.dtype,
                is_parameter=name.is_parameter if tensor.is_parameter is None else tensor.is_parameter,
                reason=f"the branch {name.branch} of {self.base.name} is not used",
            )
        )

    def function_changes(self, fates: list[Fate]) -> list[FunctionChange]:
        """Return what changes the function of the same weights, shared sections once."""
        deviations = [fate.deviation for fate in fates if fate.deviation and fate.deviation.kind != "types"]
        shaping = {deviation.section.pointer(at) for deviation in deviations for at in deviation.keys}
        found: dict[str, FunctionChange] = {}
        for pair in self.pairs.values():
            for change in pair.function_changes(shaping):
                found.setdefault(change.pointer, change)
        return list(found.values())
