"""A small language model through the whole service: pretrained, extended, run again, taught to answer, in replicas, exported."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, Service, start_service, stop_service

pytestmark = pytest.mark.long

EXAMPLE = ROOT / "examples" / "minimind"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of its own, whose worker serves this engine and trains two at a time."""
    running = start_service(tmp_path_factory.mktemp("minimind"), CAIRN_ENGINES="minimind", CAIRN_SLOTS="2")
    yield running
    stop_service(running)


@pytest.fixture(scope="module")
def data(service: Service, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The example's stories and conversations, made by its own generator, but fewer."""
    target = tmp_path_factory.mktemp("little")
    code = "import generate; generate.STORIES, generate.CHATS = 400, 200; generate.main()"
    subprocess.run([sys.executable, "-c", code, str(target)], cwd=EXAMPLE, check=True)
    for name in ("stories", "chats"):
        service.cli("dataset", "add", str(target / name), "--name", name, "--engine", "minimind")


def tiny(file: str, **training: Any) -> dict[str, Any]:
    """One of the example's configs, of one epoch, and smaller where it says how large the model is."""
    config = dict(json.loads((EXAMPLE / file).read_text()))
    if "model" in config:
        config["model"] |= {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 300}
    del config["training"]["max_steps"]
    config["training"] |= {"epochs": 1, "save_interval": 10, "eval_interval": 10, "warmup_steps": 2, **training}
    return config


@pytest.fixture(scope="module")
def pretrained(service: Service, data: None) -> dict[str, Any]:
    """A strict pretraining of one epoch: how many steps that is, only the data tell."""
    options = {"engine": "minimind", "name": "stories", "seed": 7, "determinism": "strict"}
    job = service.submit(tiny("input.json"), **options)
    assert job["progress"]["total_steps"] == 0
    return service.wait(job["id"], "completed")


def checkpoints(service: Service, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a job's checkpoints, the newest first."""
    return list(service.client.get(f"/api/v1/jobs/{job['id']}/checkpoints").json())


def steps_of(service: Service, job: dict[str, Any]) -> list[int]:
    return list(service.metrics(job["id"], "train/loss")["steps"]["train/loss"])


def test_an_epoch_ends_where_the_data_end(service: Service, pretrained: dict[str, Any]) -> None:
    total = pretrained["progress"]["total_steps"]
    assert pretrained["progress"]["step"] == total > 10
    assert steps_of(service, pretrained) == list(range(1, total + 1))
    losses = service.metrics(pretrained["id"], "val/loss", "val/perplexity")["values"]
    assert losses["val/loss"][-1] < losses["val/loss"][0]
    told = service.client.get(f"/api/v1/jobs/{pretrained['id']}/events").json()
    assert "sample" in {event["kind"] for event in told}


def test_it_repeats_bit_for_bit(service: Service, pretrained: dict[str, Any]) -> None:
    done = service.cli("reproduce", str(pretrained["id"]), "--follow")
    assert f"identical: {pretrained['progress']['step']} steps" in done.stdout


def test_it_goes_on_to_more_steps(service: Service, pretrained: dict[str, Any]) -> None:
    done = pretrained["progress"]["step"]
    job = json.loads(service.cli("extend", str(pretrained["id"]), str(done + 7), "--json").stdout)
    job = service.wait(job["id"], "completed")
    assert steps_of(service, job) == list(range(done + 1, done + 8))
    assert job["progress"]["total_steps"] == done + 7


def test_it_goes_on_to_more_epochs(service: Service, pretrained: dict[str, Any]) -> None:
    start = {"mode": "resume", "base": f"job:{pretrained['id']}"}
    job = service.wait(service.submit({"training": {"epochs": 2}}, start=start)["id"], "completed")
    done = pretrained["progress"]["step"]
    assert steps_of(service, job) == list(range(done + 1, 2 * done + 1))


def test_its_weights_learn_to_answer_and_are_read_by_transformers(
    service: Service, pretrained: dict[str, Any], tmp_path: Path
) -> None:
    start = {"mode": "init", "base": f"job:{pretrained['id']}"}
    job = service.submit(tiny("sft.json"), engine="minimind", start=start, name="chats")
    assert (job["plan"]["kept"], job["resolved"]["tokenizer"]["source"]) == (job["plan"]["parameters"], "base")
    job = service.wait(job["id"], "completed")
    told = service.client.get(f"/api/v1/jobs/{job['id']}/events").json()
    begun = [event["data"]["sha256"] for event in told if event["kind"] == "fingerprint"]
    assert begun[-1] == checkpoints(service, pretrained)[0]["fingerprint"]
    service.cli("download", str(job["id"]), "--all-files", "--output", f"{tmp_path}/")
    (archive,) = tmp_path.rglob("*-hf.zip")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path)
    directory = str(tmp_path / archive.stem)
    count = "import sys, transformers; print(transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1]).num_parameters())"
    found = subprocess.run([sys.executable, "-c", count, directory], capture_output=True, text=True, check=True)
    assert int(found.stdout) == job["plan"]["parameters"]
    subprocess.run([sys.executable, str(EXAMPLE / "talk.py"), directory, "Who are you?"], check=True)


def test_replicas_differ_from_their_first_weights_on_and_come_as_one(
    service: Service, pretrained: dict[str, Any], tmp_path: Path
) -> None:
    job = service.submit(tiny("input.json"), engine="minimind", replicas=2, name="both")
    group = job["group"]
    ids = [one["id"] for one in service.client.get(f"/api/v1/groups/{group}").json()["jobs"]]
    for number in ids:
        service.wait(number, "completed")
    found = service.client.get(f"/api/v1/groups/{group}").json()
    assert {"val/loss", "val/perplexity"} <= {metric["key"] for metric in found["summary"]}
    compared = json.loads(service.cli("compare", *map(str, ids), "--json", check=False).stdout)
    assert (compared["fingerprint"]["stage"], compared["divergence"]["step"]) == ("init", 1)
    service.cli("group", "download", str(group), "--output", f"{tmp_path}/")
    (archive,) = tmp_path.glob("*.zip")
    assert sum("replica-" in name for name in zipfile.ZipFile(archive).namelist()) == 2
