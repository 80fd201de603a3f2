"""Bytes decoded by many threads: msgspec's knowledge of a Struct is made by one, or the process ends by a segmentation
fault, as an API did whose first requests came all at once."""

import subprocess
import sys

_DECODING = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec

from svcctl import wire

sys.setswitchinterval(1e-6)
together = threading.Barrier(4)


def made(number):
    fields = [(f"f{each}", str | int, 0) for each in range(20)]
    parts = [msgspec.defstruct(f"Part{number}_{each}", fields) for each in range(10)]
    return msgspec.defstruct(f"Whole{number}", [(f"g{each}", part | None, None) for each, part in enumerate(parts)])


def use(kind):
    together.wait()
    for each in range(10):
        wire.decode(b'{"g%d": {"f0": 1, "f19": "x"}}' % each, kind)
        wire.convert({f"g{each}": {"f0": "1"}}, kind)


with ThreadPoolExecutor(4) as threads:
    for number in range(40):
        list(threads.map(use, [made(number)] * 4))
"""


def test_threads_that_meet_a_struct_for_the_first_time_at_once():
    done = subprocess.run([sys.executable, "-c", _DECODING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
