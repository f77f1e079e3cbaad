"""Who runs which tests when several processes share them: the longest first, and together what shares a costly start."""

from pathlib import Path

import pytest

DISTURBED = ("tests/app/web/browser", "tests/e2e", "tests/faults")
"""Directories whose tests start services and browsers and wait for them: one process runs each of them."""

TOGETHER = ("tests/worker/engines/deepmd", *DISTURBED)
"""Directories that one process runs, from long to short; those of the first share forkservers and trained models."""


def scope_of(nodeid: str) -> str:
    """Return what a test belongs to: a directory of `TOGETHER`, else its file, so that nothing of a module is made twice."""
    path = nodeid.partition("::")[0]
    return _directory(path, TOGETHER) or path


def scope_of_long(nodeid: str) -> str:
    """Return what a test belongs to where each takes minutes: only those that others disturb are kept apart from them."""
    return _directory(nodeid.partition("::")[0], DISTURBED) or nodeid


def _directory(path: str, among: tuple[str, ...]) -> str | None:
    return next((parent for parent in map(str, Path(path).parents) if parent in among), None)


def order_of(item: pytest.Item) -> tuple[int, bool]:
    """Return a key that puts the longest first, so that at the end no process is left with one of them."""
    scope = scope_of(item.nodeid)
    return TOGETHER.index(scope) if scope in TOGETHER else len(TOGETHER), item.get_closest_marker("deepmd") is None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        _split_scope = staticmethod(scope_of_long if config.getoption("--long") else scope_of)

    config.option.loadscopereorder = False  # by number of tests
    return Scheduling(config, log)
