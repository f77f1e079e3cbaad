"""`cairn up`: starts Redis, API and a worker on this machine, keeps them running, and stops them in order."""

from app.up.command import migrate, up

__all__ = ["migrate", "up"]
