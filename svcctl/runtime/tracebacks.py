"""Tracebacks as the author of a service wants them: from their own first line on, and safe to print."""

import asyncio
import importlib
import os
import traceback
from collections.abc import Mapping
from itertools import dropwhile

import svcctl
from svcctl.text import clean_lines

_HIDDEN = (
    *(f"{folder}{os.sep}" for module in (svcctl, asyncio, importlib) for folder in module.__path__),
    "<frozen importlib._bootstrap",
)
_OURS = tuple(f"{os.sep}site-packages{os.sep}{name}{os.sep}" for name in ("uvicorn", "httpx", "httpcore"))
"""Of svcctl's own installation. What a service brings lies elsewhere, and its frames are told."""


class Explained(Exception):
    """Something that a service did wrong, in words that no stack would make clearer: none of its frames are on it."""


def readable(error: BaseException, places: Mapping[str, str] | None = None) -> str:
    """With its causes, without a newline at the end. `places` names the services by their folders."""
    if isinstance(error, Explained):
        return clean_lines(str(error))
    report = traceback.TracebackException.from_exception(error, compact=True)
    _trim(report, places or {})
    return clean_lines("".join(report.format())).rstrip("\n")


def _trim(report: traceback.TracebackException, places: Mapping[str, str]) -> None:
    frames = dropwhile(lambda frame: not _place(frame.filename, places), report.stack or ())
    shown = [frame for frame in list(frames) or report.stack or () if not _is_hidden(frame.filename)]
    if shown:
        report.stack = _Stack(shown, places)
    elif issubclass(report.exc_type or Exception, SyntaxError):
        report.stack = None  # type: ignore[assignment]  # the error itself names file and line
    for other in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if other is not None:
            _trim(other, places)


def _is_hidden(file: str) -> bool:
    return file.startswith(_HIDDEN) or any(each in file for each in _OURS)


class _Stack(traceback.StackSummary):
    """Each frame with the service that it is in."""

    def __init__(self, frames: list[traceback.FrameSummary], places: Mapping[str, str]) -> None:
        super().__init__(frames)
        self._places = places

    def format_frame_summary(self, frame_summary: traceback.FrameSummary) -> str:
        text = super().format_frame_summary(frame_summary)
        if (place := _place(frame_summary.filename, self._places)) is None:
            return text
        first, newline, rest = text.partition("\n")
        return f"{first}  [{place}]{newline}{rest}"


def _place(file: str, places: Mapping[str, str]) -> str | None:
    return next((place for folder, place in places.items() if file.startswith(folder + os.sep)), None)
