"""The JSON schema that the editor uses."""

import json
from typing import Any

import pytest

from app.engines.deepmd import ENGINE, supported
from tests.app.engines.deepmd.support import base

jsonschema = pytest.importorskip("jsonschema")


def errors(config: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(ENGINE.schema())
    return [error.message for error in validator.iter_errors(config)]


@pytest.mark.parametrize("name", ["copper", "dpa1", "dpa2", "dpa3", "hybrid", "tasks"])
def test_good_inputs_are_valid(name: str) -> None:
    assert errors(base(name)) == []


def test_the_schema_is_valid_small_and_made_once() -> None:
    schema = ENGINE.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert len(json.dumps(schema)) < 600_000
    assert ENGINE.schema() is schema


def test_mistakes_are_found() -> None:
    config = base("copper")
    config["training"]["numb_steps"] = "many"
    assert errors(config)


def test_what_is_refused_is_not_offered() -> None:
    text = json.dumps(ENGINE.schema())
    for name in ("LKF", "pairtab", "dipole", "dpa4c", "loc_frame"):
        assert f'"{name}"' not in text
    for name in supported.DESCRIPTORS | supported.OPTIMIZERS:
        assert f'"{name}"' in text
