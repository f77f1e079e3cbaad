"""What the forkserver imports for the toy engine."""

import pyarrow.ipc

__all__ = ["pyarrow"]
