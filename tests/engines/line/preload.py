"""What the forkserver imports for the line engine; it also gets to know it here."""

import pyarrow.ipc

import tests.engines.line.errands
import tests.engines.line.trainer
import worker.errand
import worker.trainer
from tests.engines.line.engine import install

install()

__all__ = ["pyarrow", "tests", "worker"]
