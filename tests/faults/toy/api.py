"""The real control plane, knowing the toy engine as well: `python -m tests.faults.toy.api`."""

from datetime import timedelta

import uvicorn

from tests.faults.toy.engine import install

install()

from app.fleet import upkeep  # noqa: E402 - after the engine is known
from app.jobs import rules  # noqa: E402 - after the engine is known
from app.main import create_app  # noqa: E402 - the same
from app.settings import get_settings  # noqa: E402

if __name__ == "__main__":
    # The rules are tested elsewhere; these tests only wait for them.
    rules.FIRST_PAUSE_S = 0.5
    upkeep.RING_AGAIN = timedelta(seconds=3)
    uvicorn.run(create_app(), host="127.0.0.1", port=get_settings().port, log_level="warning")
