"""The commands by which DeePMD-kit itself uses an ensemble."""

import shlex

from app.engines.deepmd.ensemble import commands

FILES = ["a 1.pt", "b.pt"]


def test_models_of_one_task_are_used_as_they_are():
    (command,) = commands({"model": {"descriptor": {}}}, FILES)
    assert shlex.split(command) == ["dp", "--pt", "model-devi", "-m", *FILES, "-s", "SYSTEM", "-o", "model_devi.out"]


def test_models_of_several_tasks_are_frozen_for_one_of_them_first():
    *freeze, command = commands({"model": {"model_dict": {"H2O": {}, "Cu": {}}}}, FILES)
    assert [shlex.split(one)[2:] for one in freeze] == [
        ["freeze", "-c", "a 1.pt", "-o", "a 1.pth", "--head", "H2O"],
        ["freeze", "-c", "b.pt", "-o", "b.pth", "--head", "H2O"],
    ]
    assert shlex.split(command)[4:6] == ["a 1.pth", "b.pth"]
