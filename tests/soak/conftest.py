"""What is too long, or wants programs that `make test` does without. The end says what ran and what could not."""

import shutil
from pathlib import Path

import pytest
from programs import FAULTS, PROGRAMS

_done: list[str] = []


@pytest.fixture
def done() -> list[str]:
    """Sentences for the end of the run."""
    return _done


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.soak)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _done:
        return
    terminalreporter.section("what soak ran")
    for sentence in _done:
        terminalreporter.line(sentence)
    for program, what in PROGRAMS.items():
        there = shutil.which(program)
        terminalreporter.line(f"{program}: {there or 'MISSING'} ({what})")
    terminalreporter.line(f"faults asked for: {FAULTS}; SVCCTL_SOAK=N asks for another number")
