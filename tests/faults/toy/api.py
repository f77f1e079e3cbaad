"""The real control plane, knowing the toy engine as well: `python -m tests.faults.toy.api` starts it once a line.

To build it takes longer than all that a test does to it. So it is built once, and each line makes a fork that serves: as good
as a new process, for nothing is open yet. The answer is its process id.
"""

import os
import signal
import sys
from datetime import timedelta

import uvicorn

from tests.faults.toy import clock
from tests.faults.toy.engine import install

install()
clock.install()

from app.fleet import upkeep  # noqa: E402 - after the engine is known
from app.jobs import rules  # noqa: E402 - after the engine is known
from app.main import create_app  # noqa: E402 - the same
from app.settings import get_settings  # noqa: E402
from app.tables import base  # noqa: E402


def main() -> None:
    # The rules are tested elsewhere; these tests only wait for them.
    rules.FIRST_PAUSE_S = 0.5
    rules.LONGEST_PAUSE_S = 2.0
    upkeep.RING_AGAIN = timedelta(seconds=3)
    base.datetime = clock.WrongDatetime  # what every row's times and every lease are measured by
    app = create_app()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(2, 1)
            uvicorn.run(app, host="127.0.0.1", port=get_settings().port, log_level="warning")
            return
        print(pid, flush=True)


if __name__ == "__main__":
    main()
