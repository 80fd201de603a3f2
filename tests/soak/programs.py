"""What soak needs and `make test` does without."""

import os
import shutil

import pytest

FAULTS = int(os.environ.get("SVCCTL_SOAK", "1000"))
"""So many are wanted. Read before any test runs: tests do not see the variables of who runs them."""
PROGRAMS = {
    "strace": "faults at every system call",
    "mount": "small disks",
}


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing: {PROGRAMS[program]} are not tested (apt-get install {program})")
