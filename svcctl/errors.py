"""What can go wrong, as a tree.

    SvcctlError
    ├── UsageError         2  the command line or services.toml is wrong
    │   └── ConfigError       services.toml: all its problems at once
    ├── Refused            1  a rule says no
    ├── NotFound           3  nothing of that name
    ├── Conflict           4  the state moved since this was planned
    ├── ConsentNeeded      5  a yes is missing and nobody can be asked
    ├── Forbidden          6  the actor may not do this
    ├── Unreachable        7  the backend can't be reached, or is locked
    ├── Differences        8  `--exit-code` was given and there are some
    └── Damage             9  stored bytes do not match their names

Every error says what is wrong (`message`), what to know (`hint`) and, where there is one, the command to type
(`next`). `code` is the stable word that JSON output and the API carry; `exit_status` is the contract of the command
line. Anything that is not an SvcctlError is a bug: `BUG`, 70. An interrupt is neither: 130.
"""

from collections.abc import Sequence
from typing import ClassVar

BUG = ("bug", 70)
INTERRUPTED = 130


class SvcctlError(Exception):
    code: ClassVar[str] = "refused"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, next: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.next = next

    def __reduce__(self) -> tuple[object, ...]:
        return (_revive, (type(self), self.message, self.hint, self.next))


def _revive(kind: type[SvcctlError], message: str, hint: str | None, next: str | None) -> SvcctlError:
    error = kind.__new__(kind)
    SvcctlError.__init__(error, message, hint=hint, next=next)
    return error


class UsageError(SvcctlError):
    code = "usage"
    exit_status = 2


class ConfigError(UsageError):
    """`problems` are whole lines, `services.toml:12: services.shop.main: …`, in the order of the file."""

    def __init__(self, problems: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = tuple(problems)


class Refused(SvcctlError):
    code = "refused"
    exit_status = 1


class NotFound(SvcctlError):
    code = "not_found"
    exit_status = 3


class Conflict(SvcctlError):
    code = "conflict"
    exit_status = 4


class ConsentNeeded(SvcctlError):
    code = "consent"
    exit_status = 5


class Forbidden(SvcctlError):
    code = "forbidden"
    exit_status = 6


class Unreachable(SvcctlError):
    code = "unreachable"
    exit_status = 7


class Differences(SvcctlError):
    code = "differences"
    exit_status = 8


class Damage(SvcctlError):
    code = "damage"
    exit_status = 9
