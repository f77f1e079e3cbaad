"""MiniMind, small language models: the torch-free half. The other half is `worker.engines.minimind`."""

from app.engines.minimind.engine import ENGINE

__all__ = ["ENGINE"]
