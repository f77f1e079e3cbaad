"""The transfer plan: what becomes of every tensor of a base and of a new model, or why that may not be."""

from app.engines.minimind.transfer.planning import plan

__all__ = ["plan"]
