"""DeePMD-kit, PyTorch backend: the torch-free half. The other half is `worker.engines.deepmd`."""

from app.engines.deepmd.engine import ENGINE

__all__ = ["ENGINE"]
