"""Which metrics a training will measure, told from its config alone."""

from app.engines.deepmd.metrics import keys


def test_what_is_measured_follows_prefactors_tasks_and_validation_data():
    loss = {
        "type": "ener",
        "start_pref_e": 0.02,
        "limit_pref_e": 1,
        "start_pref_f": 0,
        "limit_pref_f": 1,
        "start_pref_v": 0,
    }
    found = keys({"training": {"training_data": {}}, "loss": loss})
    assert found is not None
    assert {"train/rmse_e", "train/rmse_f", "train/loss", "lr"} <= found
    assert not {key for key in found if "rmse_v" in key or key.startswith("val/")}
    validated = keys({"training": {"validation_data": {"systems": ["dataset:a"]}}, "loss": loss})
    assert validated is not None
    assert validated - found >= {"val/rmse_e", "val/rmse_f", "val/loss"}


def test_tasks_have_keys_of_their_own():
    data = {"a": {"training_data": {}, "validation_data": {"systems": ["dataset:a"]}}, "b": {"training_data": {}}}
    losses = {"a": {"start_pref_e": 1}, "b": {"type": "ener", "loss_func": "mae", "start_pref_f": 1}}
    found = keys({"training": {"data_dict": data}, "loss_dict": losses})
    assert found is not None
    assert {"val/rmse_e/a", "train/rmse_e/a", "train/mae_f/b", "train/loss"} <= found
    assert not {"val/loss/b", "train/rmse_e", "train/rmse_f/a"} & found


def test_of_other_losses_nothing_is_claimed():
    assert keys({"training": {}, "loss": {"type": "dos"}}) is None
