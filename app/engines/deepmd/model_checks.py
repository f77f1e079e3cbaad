"""Checks of the model section: type map, descriptor, fitting net."""

from collections.abc import Iterable
from typing import Any

from deepmd.common import VALID_ACTIVATION, VALID_PRECISION

from app.engines.deepmd.base_layer import ONE_SEL_PER_TYPE, SELECTIONS, is_auto
from app.engines.deepmd.document import short
from app.engines.deepmd.draft import NESTED, Draft, Path, counted
from app.engines.deepmd.elements import SYMBOLS

Json = Any

_CUTOFFS = (
    ("rcut_smth", "rcut"),
    ("three_body_rcut_smth", "three_body_rcut"),
    ("e_rcut_smth", "e_rcut"),
    ("a_rcut_smth", "a_rcut"),
)
_NAMED_VALUES: tuple[tuple[str, frozenset[str]], ...] = (
    ("activation_function", frozenset(VALID_ACTIVATION)),
    ("precision", frozenset(VALID_PRECISION)),
)


def check_models(draft: Draft) -> None:
    """Refuse models that DeePMD-kit accepts and then cannot build, or that mean something else than they say."""
    for task in draft.tasks():
        types = _check_type_map(draft, draft.model(task))
        for path in draft.descriptors(task):
            if isinstance(draft.get(*path), dict):
                _check_descriptor(draft, path, types)
        _check_fitting(draft, (*draft.model(task), "fitting_net"), types)
        _check_excluded_atoms(draft, (*draft.model(task), "atom_exclude_types"), types)
        _check_excluded_pairs(draft, (*draft.model(task), "pair_exclude_types"), types)
        _check_out_bias(draft, (*draft.model(task), "preset_out_bias"), types)


def _check_type_map(draft: Draft, model: Path) -> int | None:
    """Return how many types there are, or None when that is unknown."""
    path = (*model, "type_map")
    names = draft.get(*path)
    if not isinstance(draft.get(*model), dict):
        return None
    if not isinstance(names, list) or not names:
        if not any(problem.pointer and "type_map" in problem.pointer for problem in draft.problems):
            hint = 'List the elements, such as ["O", "H"]; their order numbers the types.'
            draft.refuse("missing-key", path, "must name at least one element", hint)
        return None
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        draft.refuse("duplicate", path, f"names {', '.join(twice)} more than once", "Name every type once.")
    unknown = [name for name in names if name not in SYMBOLS]
    if unknown:
        draft.warn(
            "unknown-element",
            path,
            f"names {', '.join(map(short, unknown))}, no chemical symbol",
            "Is this a typing mistake?",
        )
    return len(names)


def _check_descriptor(draft: Draft, path: Path, types: int | None) -> None:
    for section in [path, *((*path, name) for name in NESTED if draft.get(*path, name))]:
        _check_cutoffs(draft, section)
        for key in SELECTIONS:
            _check_selection(draft, (*section, key), _length(draft, path, types, key))
        _check_names(draft, section)
        if draft.get(*section, "neuron") == []:
            draft.refuse("out-of-range", (*section, "neuron"), "names no layer", "Such as [25, 50, 100].")
    _check_axis(draft, path)
    _check_excluded_pairs(draft, (*path, "exclude_types"), types)
    _check_dpa(draft, path)


def _length(draft: Draft, path: Path, types: int | None, key: str) -> int | None:
    return types if key == "sel" and draft.get(*path, "type") in ONE_SEL_PER_TYPE else None


def _check_cutoffs(draft: Draft, section: Path) -> None:
    for inner, outer in _CUTOFFS:
        smooth, cutoff = draft.number(*section, inner), draft.number(*section, outer)
        if smooth is not None and cutoff is not None and smooth >= cutoff > 0:
            draft.refuse(
                "out-of-range", (*section, inner), f"({smooth:g} Å) must be less than {outer} ({cutoff:g} Å)",
                "The weight of a neighbour falls from 1 at rcut_smth to 0 at rcut.",
            )  # fmt: skip


def _check_selection(draft: Draft, path: Path, types: int | None) -> None:
    value = draft.get(*path)
    if isinstance(value, str):
        _check_auto(draft, path, value)
        return
    numbers = value if isinstance(value, list) else [value]
    wrong = [number for number in numbers if isinstance(number, int) and number <= 0]
    hint = 'Give the largest number of neighbours within the cutoff, or "auto".'
    if wrong:
        draft.refuse("out-of-range", path, f"must be greater than 0, but holds {wrong[0]}", hint)
    elif isinstance(value, list) and types is not None and len(value) != types:
        message = f"has {counted(len(value), 'number')}, but type_map has {counted(types, 'element')}"
        draft.refuse(
            "wrong-length", path, message, "One number of neighbours for each element of type_map, in its order."
        )


def _check_auto(draft: Draft, path: Path, text: str) -> None:
    if not is_auto(text):
        draft.refuse("invalid-choice", path, f"cannot be {short(text)}", 'Write numbers, "auto" or "auto:1.2".')
        return
    ratio = text.partition(":")[2]
    draft.note(
        path,
        "found by the trainer from the neighbour statistics of the training data (largest number of neighbours times "
        f"{ratio or '1.1'}, rounded up to a multiple of 4), and recorded there",
    )


def _check_names(draft: Draft, section: Path) -> None:
    for key, allowed in _NAMED_VALUES:
        value = draft.get(*section, key)
        is_none = key == "activation_function" and isinstance(value, str) and value.lower() == "none"
        if isinstance(value, str) and value not in allowed and not is_none:
            hint = f"One of {', '.join(sorted(allowed))}."
            draft.refuse("invalid-choice", (*section, key), f"cannot be {short(value)}", hint)


def _check_axis(draft: Draft, path: Path) -> None:
    for section in (path, (*path, "repinit")):
        axis, widths = draft.number(*section, "axis_neuron"), draft.get(*section, "neuron")
        if (
            axis is not None
            and isinstance(widths, list)
            and widths
            and isinstance(widths[-1], int)
            and axis > widths[-1] > 0
        ):
            message = f"({axis}) must not exceed the last layer of neuron ({widths[-1]})"
            draft.refuse("out-of-range", (*section, "axis_neuron"), message, "It takes a part of that layer.")


def _check_dpa(draft: Draft, path: Path) -> None:
    for bigger, smaller, is_strict in (
        (("repinit", "rcut"), ("repformer", "rcut"), True),
        (("repinit", "nsel"), ("repformer", "nsel"), True),
        (("repflow", "e_rcut"), ("repflow", "a_rcut"), False),
        (("repflow", "e_sel"), ("repflow", "a_sel"), False),
    ):
        high, low = draft.number(*path, *bigger), draft.number(*path, *smaller)
        if high is not None and low is not None and (low > high or (is_strict and low == high)):
            relation = "less than" if is_strict else "at most"
            message = f"({low:g}) must be {relation} {'.'.join(bigger)} ({high:g})"
            draft.refuse(
                "out-of-range", (*path, *smaller), message, "DeePMD-kit builds one neighbour list from the other."
            )
    flow = (*path, "repflow")
    if draft.get(*flow, "use_dynamic_sel") and not draft.get(*flow, "smooth_edge_update"):
        message = "must be true when use_dynamic_sel is"
        draft.refuse("contradiction", (*flow, "smooth_edge_update"), message, 'Add "smooth_edge_update": true.')


def _check_fitting(draft: Draft, path: Path, types: int | None) -> None:
    _check_names(draft, path)
    energies = draft.get(*path, "atom_ener")
    if isinstance(energies, list) and energies and types is not None and len(energies) != types:
        message = f"has {len(energies)} entries, but type_map has {counted(types, 'element')}"
        draft.refuse("wrong-length", (*path, "atom_ener"), message, "One energy (eV) or null for each element.")
    trainable, widths = draft.get(*path, "trainable"), draft.get(*path, "neuron")
    if isinstance(trainable, list) and isinstance(widths, list) and len(trainable) != len(widths) + 1:
        message = f"has {len(trainable)} entries, but there are {len(widths) + 1} layers, the output included"
        draft.refuse("wrong-length", (*path, "trainable"), message, "One true or false for each layer.")
    if isinstance(trainable, list) and len(set(trainable)) > 1:
        message = "mixes true and false, and the PyTorch backend would then freeze every layer"
        draft.refuse("unsupported", (*path, "trainable"), message, "Write true or false for the whole net.")


def _check_excluded_atoms(draft: Draft, path: Path, types: int | None) -> None:
    value = draft.get(*path)
    if isinstance(value, list) and not _are_types(value, types):
        draft.refuse("out-of-range", path, f"holds no type: {short(value)}", _numbered(types))


def _check_excluded_pairs(draft: Draft, path: Path, types: int | None) -> None:
    value = draft.get(*path)
    if isinstance(value, list):
        for pair in value:
            if not isinstance(pair, list) or len(pair) != 2 or not _are_types(pair, types):
                draft.refuse("out-of-range", path, f"holds no pair of types: {short(pair)}", _numbered(types))
                return


def _are_types(values: Iterable[Json], types: int | None) -> bool:
    return all(
        isinstance(value, int) and not isinstance(value, bool) and value >= 0 and (types is None or value < types)
        for value in values
    )


def _numbered(types: int | None) -> str:
    last = f" to {types - 1}" if types else ""
    return f"Types are numbered from 0{last}, in the order of type_map."


def _check_out_bias(draft: Draft, path: Path, types: int | None) -> None:
    value = draft.get(*path)
    if not isinstance(value, dict):
        return
    for key, biases in value.items():
        if key != "energy":
            draft.refuse("unsupported", (*path, key), "is no output of an energy model", 'Write {"energy": [ … ]}.')
        elif types is not None and len(biases) != types:
            message = f"has {len(biases)} entries, but type_map has {counted(types, 'element')}"
            draft.refuse("wrong-length", (*path, key), message, "One energy (eV) or null for each element.")
