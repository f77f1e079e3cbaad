"""An intake of DeePMD data without a database."""

from tests.app.datasets.conftest import engine, here, pack, problems, store, unconfined, water

__all__ = ["engine", "here", "pack", "problems", "store", "unconfined", "water"]
