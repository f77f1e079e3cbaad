"""The real worker, knowing the toy engine as well: `python -m tests.faults.toy.worker`."""

import sys

from tests.faults.toy import clock
from tests.faults.toy.engine import install
from worker.__main__ import main

if __name__ == "__main__":
    install()
    clock.install()
    sys.exit(main("tests.faults.toy.trainer:main"))
