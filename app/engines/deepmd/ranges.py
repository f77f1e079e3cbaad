"""Numbers that DeePMD-kit lets through although no training can come of them."""

import math
from typing import NamedTuple

from app.engines.deepmd.document import short
from app.engines.deepmd.draft import Draft, Path

MAX_SEED = 2**32 - 1
"""DeePMD-kit takes `training.seed` modulo 2**32."""


_GENEROUS = 1000


class Range(NamedTuple):
    """Bounds of a number or of every number of a list."""

    section: str
    keys: tuple[str, ...]
    low: float
    above: bool = False
    """The lower bound itself is not allowed."""
    high: float = math.inf
    below: bool = False
    """The upper bound itself is not allowed."""
    hint: str | None = None


_CUTOFF = "A cutoff is a distance in Å; 6 is usual."
_WIDTH = "Give the number of neurons of each layer, such as [25, 50, 100]."
_PREFACTOR = "Use 0 to leave this term out of the loss."

RANGES = (
    Range("descriptor", ("rcut", "three_body_rcut", "e_rcut", "a_rcut"), 0, above=True, high=100, hint=_CUTOFF),
    Range("descriptor", ("rcut_smth", "three_body_rcut_smth", "e_rcut_smth", "a_rcut_smth"), 0, hint=_CUTOFF),
    Range("descriptor", ("neuron", "three_body_neuron"), 1, hint=_WIDTH),
    Range(
        "descriptor",
        ("axis_neuron", "attn", "tebd_dim", "nlayers", "g1_dim", "g2_dim", "n_dim", "e_dim", "a_dim", "attn1_hidden",
         "attn1_nhead", "attn2_hidden", "attn2_nhead", "a_compress_e_rate", "n_multi_edge_message"),
        1,
    ),
    Range("descriptor", ("attn_layer", "a_compress_rate", "env_protection"), 0),
    Range("descriptor", ("sel_reduce_factor", "temperature", "scaling_factor"), 0, above=True),
    Range("fitting_net", ("neuron",), 1, hint=_WIDTH),
    Range("model", ("data_stat_nbatch",), 1),
    Range("model", ("data_stat_protect",), 0, above=True),
    Range("learning_rate", ("start_lr",), 0, above=True, hint="0.001 is usual."),
    Range("learning_rate", ("stop_lr",), 0, hint="1e-8 is usual."),
    Range("learning_rate", ("stop_lr_ratio",), 0, above=True, high=1),
    Range("learning_rate", ("decay_steps",), 1),
    Range("learning_rate", ("decay_rate", "decay_phase_ratio"), 0, above=True, high=1),
    Range("learning_rate", ("warmup_steps", "warmup_start_factor"), 0),
    Range("learning_rate", ("warmup_ratio",), 0, high=1, below=True),
    Range("optimizer", ("adam_beta1", "adam_beta2", "momentum"), 0, high=1, below=True),
    Range("optimizer", ("weight_decay",), 0),
    Range("optimizer", ("lr_adjust_coeff",), 0, above=True),
    Range(
        "loss",
        tuple(f"{end}_pref_{term}" for end in ("start", "limit") for term in ("e", "f", "v", "ae", "pf")),
        0,
        hint=_PREFACTOR,
    ),
    Range("loss", ("huber_delta", "relative_f"), 0, above=True),
    Range("training", ("numb_steps",), 1, high=10**12, hint="Give the number of training steps, such as 100000."),
    Range("training", ("numb_epoch",), 0, above=True, high=10**9),
    Range("training", ("disp_freq", "save_freq"), 1, hint="Give a number of steps, such as 1000."),
    Range("training", ("gradient_max_norm",), 0, hint="0 means no clipping."),
    Range("training", ("seed",), 0, high=MAX_SEED, hint="Leave it out to have it derived from the job's seed."),
    Range("descriptor", ("seed",), 0, high=MAX_SEED, hint="Leave it out to have it derived from the job's seed."),
    Range("fitting_net", ("seed",), 0, high=MAX_SEED, hint="Leave it out to have it derived from the job's seed."),
    Range("data", ("numb_btch",), 1),
    Range("data", ("min_pair_dist",), 0),
)  # fmt: skip


def check_ranges(draft: Draft) -> None:
    """Refuse numbers outside their range."""
    for kind, path in draft.sections():
        for rule in RANGES:
            if rule.section == kind:
                for key in rule.keys:
                    _check(draft, (*path, key), rule)


def _check(draft: Draft, path: Path, rule: Range) -> None:
    value = draft.get(*path)
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, int | float) and not isinstance(number, bool) and not _inside(number, rule):
            message = f"must be {_bounds(rule, number)}, but is {short(value)}"
            draft.refuse("out-of-range", path, message, rule.hint or _usual(draft, path))
            return


def _usual(draft: Draft, path: Path) -> str:
    default = draft.default(*path)
    return f"DeePMD-kit's default is {short(default)}." if default is not None else "Choose a number in this range."


def _inside(number: float, rule: Range) -> bool:
    is_low_enough = number < rule.high if rule.below else number <= rule.high
    return is_low_enough and (number > rule.low if rule.above else number >= rule.low)


def _bounds(rule: Range, number: float) -> str:
    """Say what the number must be; a generous upper bound is news only to those who exceed it."""
    low = f"{'greater than' if rule.above else 'at least'} {rule.low:g}"
    high = f"{'less than' if rule.below else 'at most'} {rule.high:.12g}"
    if rule.high > _GENEROUS:
        return high if number > rule.high else low
    return f"{low} and {high}"
