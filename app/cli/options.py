"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Mode(StrEnum):
    """How to start from a base."""

    init = "init"
    finetune = "finetune"
    resume = "resume"


class Policy(StrEnum):
    """What to do where a base does not fit."""

    adapt = "adapt"
    error = "error"


class Twin(StrEnum):
    """What to do when the same training is here already."""

    resume = "resume"
    reuse = "reuse"
    new = "new"
    fail = "fail"


Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Job = Annotated[int, typer.Argument(metavar="JOB", help="The job's number.", min=1)]
Config = Annotated[
    str | None,
    typer.Argument(metavar="[FILE]", help="The input.json; - reads standard input. With --base it may be left out."),
]
Base = Annotated[
    str | None,
    typer.Option(metavar="REF", help="Start from a base model (water, water@3) or a job's checkpoint (job:17@4000)."),
]
ModeOption = Annotated[
    Mode | None,
    typer.Option(help="How to start from the base [default: finetune]. resume: its config and data, too, are taken."),
]
Branch = Annotated[
    list[str] | None,
    typer.Option(metavar="BRANCH", help="Task of a multi-task base; of a task: TASK=BRANCH. Repeatable."),
]
FittingOption = Annotated[
    list[str] | None,
    typer.Option(metavar="reuse|new", help="Whether the fitting net starts from the base's; of a task: TASK=new."),
]
Mismatch = Annotated[
    Policy | None, typer.Option("--on-mismatch", help="error: nothing of the base may change [default: adapt].")
]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY", help="Config key whose difference from the base may begin anew. Repeatable."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value: --set training.numb_steps=1000. Repeatable."),
]
Seed = Annotated[int | None, typer.Option(help="Root seed; drawn and recorded when absent.")]
Replicas = Annotated[
    int | None,
    typer.Option(min=1, max=64, help="That many trainings that differ in nothing but their seeds, as a group."),
]
TestOn = Annotated[
    list[str] | None,
    typer.Option(
        "--test-on",
        metavar="REF",
        help="Test its last checkpoint on this data: dataset:water-held-out; of several tasks TASK=dataset:…. Repeatable.",
    ),
]
TestAt = Annotated[
    list[int] | None,
    typer.Option(
        "--test-at",
        min=1,
        metavar="STEP",
        help="Test the checkpoint of this step on it, too, once it is there. Repeatable.",
    ),
]
TestEvery = Annotated[
    int | None,
    typer.Option("--test-every", min=1, metavar="STEPS", help="Test a checkpoint on it every so many steps, too."),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        min=1, max=64, help="GPUs of one worker that train together, each with batches of its own [default: 1]."
    ),
]
Existing = Annotated[
    Twin | None,
    typer.Option(
        "--on-existing",
        help="When the same training is here already: go on from its checkpoint, take it as it is, train anew, or fail "
        "[default: go on from an interrupted one, ask about any other].",
    ),
]
Engine = Annotated[str | None, typer.Option(help="Which engine it is for [default: what the file tells].")]
Output = Annotated[
    str | None, typer.Option("--output", "-o", help="File to write to, or directory (one that is there, or DIR/).")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Database, blobs and tokens [default: CAIRN_DATA_DIR or ~/.cairn].", file_okay=False),
]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given, so that the server's own defaults hold for the others."""
    return {name: value for name, value in options.items() if value not in (None, [])}
