"""The example behind `make demo-minimind`: its corpus is true and the same everywhere, its configs are accepted."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import demo_minimind
from app.engines.base import DatasetFacts
from app.engines.minimind import ENGINE
from app.wire.datasets import Histogram, TextFile, TextSummary
from app.wire.submission import Start

GIFT = re.compile(r"(\w+) has (\d) (\w+)\. (\w+) gives (\w+) (\d) (more|of them)\. \1 has (\d+) \3\.")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated(tmp_path_factory.mktemp("corpus"))


def generated(folder: Path) -> Path:
    command = [sys.executable, str(demo_minimind.EXAMPLE / "generate.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_stories_add_up(corpus: Path) -> None:
    text = " ".join(line["text"] for line in lines(corpus / "stories" / "stories.jsonl"))
    found = GIFT.findall(text)
    assert len(found) > 5000
    for owner, had, _, giver, taker, moved, kind, now in found:
        gets = kind == "more"
        assert owner == (taker if gets else giver)
        assert int(now) == int(had) + (int(moved) if gets else -int(moved)) > 0


def test_every_conversation_has_a_question_and_an_answer(corpus: Path) -> None:
    for line in lines(corpus / "chats" / "chats.jsonl"):
        question, answer = line["conversations"]
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert question["content"].endswith("?")
        assert answer["content"].endswith(".")


def test_the_corpus_is_the_same_bytes_every_time(corpus: Path, tmp_path: Path) -> None:
    again = generated(tmp_path)
    for name in ("stories/stories.jsonl", "chats/chats.jsonl"):
        assert (again / name).read_bytes() == (corpus / name).read_bytes()


@pytest.mark.parametrize(("name", "dataset", "form"), [("input", "stories", "text"), ("sft", "chats", "conversations")])
def test_the_configs_are_accepted(name: str, dataset: str, form: Any) -> None:
    file = TextFile(name=f"{dataset}.jsonl", form=form, entries=100, characters=1000, size=1200)
    lengths = Histogram(edges=[0, 128], counts=[100])
    text = TextSummary(
        files=[file], documents=100, conversations=0, turns=0, characters=1000, size=1200, lengths=lengths
    )
    facts = {f"dataset:{dataset}": DatasetFacts(dataset, 1, "d" * 64, text=text)}
    config = json.loads((demo_minimind.EXAMPLE / f"{name}.json").read_text())
    answer = ENGINE.resolve(config, root_seed=20, datasets=facts, start=Start(), base=None)
    assert answer.problems == []
    assert answer.total_steps == config["training"]["max_steps"]
    assert answer.config["data"]["train"] == [f"dataset:{dataset}@1"]
