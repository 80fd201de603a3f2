"""Many more requests made of the API's document than `make test` sends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = 300
"""A route."""


@pytest.mark.parametrize("more", [{}, {"SVCCTL_SCHEMA_ON_POSTGRES": "yes"}], ids=["folder", "postgres"])
def test_no_request_is_a_bug_in_full(more: dict[str, str], done: list[str]) -> None:
    test = Path(__file__).parent.parent / "test_api_schema.py"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(test)],
        env=os.environ | {"SVCCTL_SCHEMA_EXAMPLES": str(EXAMPLES)} | more,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    done.append(f"{EXAMPLES} requests to each route of the API, made of its document: none was a bug")
