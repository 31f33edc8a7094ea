"""What crashes or hangs in the child costs one call."""

import os
import time

import pytest

from muybridge.curation.cage import Cage
from muybridge.curation.footage import FootageError


def test_calls_crashes_hangs_and_problems():
    cage = Cage(20)
    assert cage.call(pow, 2, 10) == 1024
    child = cage.call(os.getpid)
    assert child != os.getpid() and cage.call(os.getpid) == child
    with pytest.raises(FootageError) as told:
        cage.call(int, "x")
    assert told.value.kind == "failed" and cage.call(os.getpid) == child
    with pytest.raises(FootageError) as told:
        cage.call(os._exit, 7)
    assert told.value.kind == "crashed" and cage.call(os.getpid) != child
    cage.seconds = 0.5
    with pytest.raises(FootageError) as told:
        cage.call(time.sleep, 30)
    assert told.value.kind == "timeout"
    cage.seconds = 20
    assert cage.call(pow, 3, 3) == 27
    cage.call(print, "noise on stdout")
    assert cage.call(pow, 3, 2) == 9
    cage.close()
