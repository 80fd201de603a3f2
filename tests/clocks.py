"""Wrong clocks for programs: what a process on a machine whose clock is off would see."""

from pathlib import Path

_SITE = """
import datetime, os, time

skew = float(os.environ["SKEW"])
right, right_ns = time.time, time.time_ns
time.time = lambda: right() + skew
time.time_ns = lambda: right_ns() + int(skew * 1e9)


class Skewed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)


datetime.datetime = Skewed
"""


def skewed(folder: Path, seconds: float) -> dict[str, str]:
    """The variables of a Python program whose clock is ahead by so much. `folder` is one for this alone."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITE)
    return {"PYTHONPATH": str(folder), "SKEW": str(seconds)}
