"""Every case of tests/engines/deepmd/cases: what an input resolves to, or why it is refused."""

from typing import Any

import pytest

from tests.app.engines import cases
from tests.app.engines.deepmd.support import DATA, ROOT_SEED, base, resolve_input


@pytest.mark.parametrize("case", cases.read(DATA / "cases"))
def test_case(case: dict[str, Any]) -> None:
    config = case["config"] if "config" in case else base(case["base"])
    config = cases.change(config, case.get("set", {}), case.get("remove", []))
    cases.check(case, resolve_input(config, seed=case.get("seed", ROOT_SEED), **case.get("start", {})))
