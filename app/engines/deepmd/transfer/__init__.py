"""The transfer plan: what becomes of every tensor of a base and of a new model, or why that may not be."""

from app.engines.deepmd.transfer.planning import plan
from app.engines.deepmd.transfer.settling import settle

__all__ = ["plan", "settle"]
