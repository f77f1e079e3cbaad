"""The thread that writes: what goes wrong there is said, and nobody waits for a thread that is gone."""

import ctypes
import threading

import pytest

from worker.background import Background


def test_what_went_wrong_is_raised_by_whoever_waits():
    with Background() as background:
        background.do(int, "seven")
        with pytest.raises(ValueError, match="seven"):
            background.wait()


def test_nobody_waits_for_a_thread_that_has_no_memory_to_go_on():
    found: list[int] = []
    with Background() as background:
        background.do(lambda: found.append(threading.get_ident()))
        background.wait()
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(found[0]), ctypes.py_object(MemoryError))
        background.do(found.clear)
        with pytest.raises(MemoryError, match="the thread that writes files has ended"):
            background.wait()
    assert found, "it never came to that"
