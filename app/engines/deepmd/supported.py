"""What of DeePMD-kit is supported, as data: what is refused, what is set by Cairn, and what has no effect."""

from typing import Any, NamedTuple

DESCRIPTORS = frozenset(
    {"se_e2_a", "se_e2_r", "se_e3", "se_e3_tebd", "se_atten", "se_atten_v2", "dpa2", "dpa3", "hybrid"}
)
"""Each was trained and frozen with DeePMD-kit 3.2.0's PyTorch backend before it was written here."""

OPTIMIZERS = frozenset({"Adam", "AdamW", "AdaMuon", "HybridMuon"})

CHOICES: dict[tuple[str, str], frozenset[str]] = {
    ("model", "type"): frozenset({"standard"}),
    ("model_dict", "type"): frozenset({"standard"}),
    ("descriptor", "type"): DESCRIPTORS,
    ("list", "type"): DESCRIPTORS - {"hybrid"},
    ("fitting_net", "type"): frozenset({"ener"}),
    ("loss", "type"): frozenset({"ener"}),
    ("loss_dict", "type"): frozenset({"ener"}),
    ("optimizer", "type"): OPTIMIZERS,
}
"""Supported values of a variant's flag, by name of the section and of the flag."""

REASONS: dict[str, str] = {
    "LKF": "the Kalman-filter optimizer draws random numbers that no seed controls, so its runs cannot be repeated",
    "spin": "spin models are not supported yet",
    "frozen": "frozen models have nothing to train",
    "loc_frame": "the PyTorch backend does not have it",
    "se_a_tpe": "the PyTorch backend does not have it",
    "se_a_ebd_v2": "the PyTorch backend does not have it",
    "se_a_mask": "the PyTorch backend does not have it",
    "dpa4": "DPA-4 is not supported yet",
    "dpa4c": "DPA-4 is not supported yet",
}
"""Why a choice is refused, where there is more to say than that only energy models are trained."""

DROPPED_SECTIONS = ("validating", "nvnmd")
"""Sections that the editor's schema leaves out."""

HIDDEN = frozenset(
    {
        ("model", "spin"), ("model", "compress"), ("model", "modifier"), ("model", "type_embedding"),
        ("model", "use_srtab"), ("model", "finetune_head"), ("training", "mixed_precision"), ("training", "stat_file"),
    }
)  # fmt: skip
"""Keys that the editor's schema leaves out."""


class Refused(NamedTuple):
    """A key that may only have its default: anything else would train another model than the one asked for."""

    section: str
    key: str
    reason: str
    hint: str = "Remove it."


REFUSED = (
    Refused("model", "use_srtab", "short-range tables (ZBL) are not supported yet, and files are never read by path"),
    Refused("model", "spin", "spin models are not supported yet"),
    Refused("model", "compress", "models are compressed after training, with `dp compress`"),
    Refused("model", "modifier", "the PyTorch backend ignores output modifiers"),
    Refused("model", "type_embedding", "the PyTorch backend has the type embedding inside the descriptor"),
    Refused("model", "finetune_head", "fine-tuning starts from a base model, which is not supported yet"),
    Refused("model", "bridging_method", "analytical bridging needs DPA-4, which is not supported yet"),
    Refused(
        "fitting_net", "layer_name", "the PyTorch backend ignores it; share fitting nets through model.shared_dict"
    ),
    Refused("fitting_net", "use_aparam_as_mask", "atomic parameters as masks are not supported yet"),
    Refused("fitting_net", "numb_aparam", "atomic parameters are not supported yet"),
    Refused("fitting_net", "numb_fparam", "frame parameters are not supported yet"),
    Refused("fitting_net", "dim_case_embd", "case embeddings are not supported yet"),
    Refused("descriptor", "attn_mask", "the PyTorch backend does not have it"),
    Refused("descriptor", "stripped_type_embedding", "it is deprecated", 'Write "tebd_input_mode": "strip".'),
    Refused("descriptor", "add_chg_spin_ebd", "charge and spin embeddings are not supported yet"),
    Refused("loss", "start_pref_h", "Hessian losses are not supported yet"),
    Refused("loss", "limit_pref_h", "Hessian losses are not supported yet"),
    Refused("loss", "start_pref_gf", "generalised-force losses are not supported yet"),
    Refused("loss", "limit_pref_gf", "generalised-force losses are not supported yet"),
    Refused("loss", "numb_generalized_coord", "generalised-force losses are not supported yet"),
    Refused(
        "training", "mixed_precision", "the PyTorch backend ignores it", "Set precision in descriptor and fitting_net."
    ),
    Refused("training", "enable_compile", "the PyTorch backend ignores it"),
    Refused("training", "enable_tf32", "the PyTorch backend ignores it", "Choose determinism: fast in the submission."),
    Refused("training", "acc_freq", "the PyTorch backend ignores gradient accumulation", "Raise batch_size instead."),
    Refused("training", "zero_stage", "it needs several processes, which are not supported yet"),
    Refused("training", "change_bias_after_training", "changing the bias after training is not supported yet"),
    Refused("data", "rglob_patterns", "datasets are not directories", "Name the systems: dataset:NAME/SYSTEM."),
    Refused("validating", "full_validation", "full validation is not supported yet", "Use training.validation_data."),
    Refused(
        "validating", "ema_full_validation", "full validation is not supported yet", "Use training.validation_data."
    ),
)


class Idle(NamedTuple):
    """A key whose value cannot take effect here, and does not change the model."""

    section: str
    key: str
    reason: str


_OWN_FILES = "files are named by Cairn"
_OWN_CHARTS = "Cairn records every step itself"
_OWN_RETENTION = "how many checkpoints are kept is part of the submission: checkpoints.keep_last"

SERVICE: dict[tuple[str, str], tuple[Any, str]] = {
    ("training", "disp_file"): ("lcurve.out", _OWN_FILES),
    ("training", "save_ckpt"): ("model.ckpt", _OWN_FILES),
    ("training", "save_dir"): (None, _OWN_FILES),
    ("training", "profiling_file"): ("timeline.json", _OWN_FILES),
    ("training", "tensorboard_log_dir"): ("log", _OWN_FILES),
    ("validating", "full_val_file"): ("val.log", _OWN_FILES),
    ("validating", "save_best_dir"): (None, _OWN_FILES),
}
"""Keys that Cairn sets, with the value and the reason: no submitted path reaches a file system."""

REMOVED: dict[tuple[str, str], str] = {
    ("data_section", "stat_file"): "statistics are kept by Cairn, by the content of the data they come from",
}
"""Keys that are left out of the resolved config."""

IDLE = (
    Idle("training", "disp_training", _OWN_CHARTS),
    Idle("training", "time_training", _OWN_CHARTS),
    Idle("training", "disp_avg", _OWN_CHARTS),
    Idle("training", "profiling", "profiling is not supported"),
    Idle("training", "enable_profiler", "profiling is not supported"),
    Idle("training", "tensorboard", "Cairn draws the charts itself"),
    Idle("training", "tensorboard_freq", "Cairn draws the charts itself"),
    Idle("training", "max_ckpt_keep", _OWN_RETENTION),
    Idle("training", "ckpt_keep_ratio", _OWN_RETENTION),
    Idle("training", "ema_ckpt_keep", _OWN_RETENTION),
    Idle("training", "neighbor_graph_method", "the PyTorch backend has one way of building neighbour lists"),
    Idle("data_section", "stat_file_mode", "statistics are kept by Cairn"),
    Idle("model", "smin_alpha", "it belongs to use_srtab"),
    Idle("model", "sw_rmin", "it belongs to use_srtab"),
    Idle("model", "sw_rmax", "it belongs to use_srtab"),
    Idle("model", "srtab_add_bias", "it belongs to use_srtab"),
    Idle("model", "data_bias_nsample", "it is for changing the bias of a trained model"),
    Idle("model", "bridging_r_inner", "it belongs to bridging_method"),
    Idle("model", "bridging_r_outer", "it belongs to bridging_method"),
    Idle("learning_rate", "scale_by_worker", "DeePMD-kit's PyTorch backend scales the learning rate by nothing"),
    Idle("validating", "validation_freq", "full validation is off"),
    Idle("validating", "save_best", "full validation is off"),
    Idle("validating", "max_best_ckpt", "full validation is off"),
    Idle("validating", "validation_metric", "full validation is off"),
    Idle("validating", "full_val_start", "full validation is off"),
    Idle("validating", "compiled_infer", "full validation is off"),
    Idle("validating", "tf32_infer", "full validation is off"),
    Idle("validating", "amp_infer", "full validation is off"),
)

LISTED: dict[tuple[str, str], frozenset[str]] = {
    ("descriptor", "tebd_input_mode"): frozenset({"concat", "strip"}),
    ("descriptor", "update_style"): frozenset({"res_avg", "res_incr", "res_residual"}),
    ("descriptor", "update_residual_init"): frozenset({"norm", "const"}),
    ("loss", "loss_func"): frozenset({"mse", "mae"}),
    ("learning_rate", "decay_type"): frozenset({"inverse_linear", "cosine", "linear"}),
    ("learning_rate", "scale_by_worker"): frozenset({"linear", "sqrt", "none"}),
    ("optimizer", "muon_mode"): frozenset({"slice", "2d", "flat"}),
}
"""Values that DeePMD-kit accepts, where its schema says only `str`: a wrong one would fail in the trainer."""
