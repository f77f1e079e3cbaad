"""The torch half of the DeePMD engine."""


def preload() -> None:
    """Import everything slow, so that a process forked afterwards starts at once. See `preload.load`."""
    from worker.engines.deepmd.preload import load

    load()
