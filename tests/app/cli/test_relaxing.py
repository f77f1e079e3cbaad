"""`cairn relax`: files become a dataset, and what came out is printed; against a real server, with a worker that computes nothing."""

import re
import threading
from pathlib import Path

from app.cli import screen
from app.cli.relaxation import Optimizer
from app.wire.relaxing import CheckedStructure, Finding, Minimum, RelaxedRun, RelaxReport, Repeat
from tests.app.cli.conftest import Cairn, Server
from tests.app.cli.test_deviating import next_queued
from tests.app.cli.test_evaluating import model, put  # noqa: F401 - a fixture
from tests.app.simulated import SimulatedWorker

PAIR = "2\n\nCu 0 0 0\nCu 0 0 {distance}\n"


def run(name: str, energy: float | None) -> RelaxedRun:
    return RelaxedRun(
        name=name, model="job:1@200", structure="pair", start=1, outcome="converged" if energy else "not-finite",
        steps=3, first_frame=0, frames=4, atoms=2, formula="Cu2", energy=energy, energy_per_atom=energy, fmax=0.03,
        digest="d" * 64,
    )  # fmt: skip


def again(number: int, *, identical: bool = True) -> Repeat:
    how = f"in the same process, time {number}"
    apart = 0 if identical else 1e-9
    return Repeat(
        how=how, identical=identical, frames=8, positions=apart, energy=0, forces=0, parts_in="pair.2", parts_at=1
    )


REPORT = RelaxReport(
    library="deepmd-kit 3.2.0", optimizer="FIRE", fmax=0.05, cell="fixed", form="checkpoint", threads=1,
    trajectory="trajectory.extxyz",
    structures=[
        CheckedStructure(
            name="pair", atoms=2, formula="Cu2",
            findings=[Finding(code="atoms-close", message="atoms 0 (Cu) and 1 (Cu) are close", refused=False)],
        )
    ],
    runs=[run("pair.1", -3.25), run("pair.2", None)],
    minima=[Minimum(model="job:1@200", formula="Cu2", rank=1, energy=-3.25, above=0.0, runs=["pair.1"])],
    repeats=[
        *(again(number) for number in range(2, 12)),
        again(12, identical=False),
        again(13),
        Repeat(how="in a fresh process", identical=True, frames=8, positions=0, energy=0, forces=0),
        Repeat(how="with 2 threads", identical=False, frames=8, positions=2e-9, energy=0, forces=0, parts_in="pair.1",
               parts_at=3),
    ],
)  # fmt: skip


def test_files_become_a_dataset_and_the_report_is_printed(
    cairn: Cairn,
    server: Server,
    worker: SimulatedWorker,
    model: str,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    files = [tmp_path / "one.xyz", tmp_path / "a" / "two.xyz", tmp_path / "b" / "two.xyz"]
    for path, distance in zip(files, (2.5, 2.6, 2.7), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_text(PAIR.format(distance=distance))

    def work() -> None:
        attempt = worker.claim(next_queued(server))
        assert [one["name"] for one in attempt.claim["datasets"]] == ["structures"]
        put(attempt, "relax.json", REPORT.model_dump_json())
        attempt.end("completed", 17, total_steps=17)

    thread = threading.Thread(target=work)
    thread.start()
    done = cairn("relax", model, *files, "--optimizer", "FIRE", "--steps", 7, "--output", f"{tmp_path}/out/")
    thread.join()
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    for shown in ("holds 3 structures", "pair.1", "-3.250000", "not finite", "are close", "the same, bit for bit"):
        assert shown in said, shown
    assert "pair.1 parts at frame 3" in said
    times = re.findall("Again in the same process, (times?[^:]*):", said)
    assert times == ["times 2 to 11", "time 12", "time 13"], "what is the same is said once"
    assert (tmp_path / "out" / "relax.json").exists()
    number = done.out.split("Job ")[1].split()[0]
    job = cairn("show", number, "--json").json
    assert job["resolved"]["structures"] == [f"dataset:structures@1/{name}" for name in ("a-two", "b-two", "one")]
    assert (job["resolved"]["optimizer"], job["resolved"]["max_steps"]) == (Optimizer.FIRE, 7)
    assert (job["determinism"], job["progress"]["total_steps"]) == ("strict", 17)


def test_it_is_said_up_to_where_it_is_saved_and_that_it_makes_no_model(
    cairn: Cairn,
    worker: SimulatedWorker,
    model: str,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    (tmp_path / "near.xyz").write_text(PAIR.format(distance=2.4))
    job = cairn("relax", model, tmp_path / "near.xyz", "--detach", "--json").json["id"]
    attempt = worker.claim(job)
    attempt.checkpoint(1009)
    assert "saved up to frame 1,009 (" in " ".join(cairn("show", job).out.split())
    done = cairn("download", job)
    assert (done.code, f"cairn download {job} files" in done.err) == (1, True)
    attempt.end("failed", 1010, failure="data")


def test_an_overlap_is_refused_with_its_pair(cairn: Cairn, model: str, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "odd.xyz").write_text(PAIR.format(distance=0.9))
    done = cairn("relax", model, tmp_path / "odd.xyz")
    assert done.code == 1
    assert "atoms 0 (Cu) and 1 (Cu) are 0.900 Å apart" in " ".join(done.err.split())


def test_a_file_that_is_not_there_is_named(cairn: Cairn, tmp_path: Path) -> None:
    done = cairn("relax", "job:1", tmp_path / "no.xyz")
    assert (done.code, "no.xyz" in done.err) == (2, True)


def test_a_count_is_written_out() -> None:
    """The thousandth of a thousand runs was run 1e+03."""
    shown = [screen.quantity(value, unit) for value, unit in ((1000.0, ""), (1.21e-5, ""), (0.0197, "eV/Å"))]
    assert shown == ["1000", "1.21e-05", "19.7 meV/Å"]


def test_every_command_can_be_asked_for_help(cairn: Cairn) -> None:
    for command in (("test",), ("relax",), ("model-devi",), ("dataset", "add")):
        done = cairn(*command, "--help")
        assert (done.code, "Usage" in done.out) == (0, True), command
