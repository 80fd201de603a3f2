"""What can go wrong, as a tree.

    SvcctlError              exit  HTTP
    ├── UsageError              2   400  the command line, services.toml or a request is wrong
    │   ├── ConfigError                  services.toml: all its problems at once
    │   └── TooLarge                413  more bytes than the API takes
    ├── Refused                 1   422  a rule says no
    ├── NotFound                3   404  nothing of that name
    ├── Conflict                4   409  the state moved since this was planned
    ├── ConsentNeeded           5   428  a yes is missing and nobody can be asked
    ├── Forbidden               6   403  the actor may not do this
    │   └── Unauthorized            401  no token, or not one that is known
    ├── Unreachable             7   503  the backend can't be reached, or is locked
    │   └── Throttled               429  it was asked too often
    ├── Differences             8     -  `--exit-code` was given and there are some
    └── Damage                  9   500  stored bytes do not match their names

Every error says what is wrong (`message`), what to know (`hint`) and, where there is one, the command to type
(`next`). `code` is the stable word that JSON output and the API carry; `exit_status` is the contract of the command
line, `http_status` that of the API. Anything that is not an SvcctlError is a bug: `BUG`, 70, 500. An interrupt is
neither: 130.
"""

from collections.abc import Sequence
from typing import ClassVar

BUG = ("bug", 70)
INTERRUPTED = 130


class SvcctlError(Exception):
    code: ClassVar[str] = "refused"
    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 422

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
    http_status = 400


class ConfigError(UsageError):
    """`problems` are whole lines, `services.toml:12: services.shop.main: …`, in the order of the file."""

    def __init__(self, problems: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = tuple(problems)


class TooLarge(UsageError):
    http_status = 413


class Refused(SvcctlError):
    code = "refused"
    exit_status = 1
    http_status = 422


class NotFound(SvcctlError):
    code = "not_found"
    exit_status = 3
    http_status = 404


class Conflict(SvcctlError):
    code = "conflict"
    exit_status = 4
    http_status = 409


class ConsentNeeded(SvcctlError):
    code = "consent"
    exit_status = 5
    http_status = 428


class Forbidden(SvcctlError):
    code = "forbidden"
    exit_status = 6
    http_status = 403


class Unauthorized(Forbidden):
    http_status = 401


class Unreachable(SvcctlError):
    code = "unreachable"
    exit_status = 7
    http_status = 503


class Throttled(Unreachable):
    http_status = 429


class Differences(SvcctlError):
    code = "differences"
    exit_status = 8


class Damage(SvcctlError):
    code = "damage"
    exit_status = 9
    http_status = 500


_KINDS: tuple[type[SvcctlError], ...] = (
    UsageError, Refused, NotFound, Conflict, ConsentNeeded, Forbidden, Unreachable, Differences, Damage,
)  # fmt: skip


def kind_of(code: str) -> type[SvcctlError] | None:
    """The class of errors that carry `code`; None for a bug, or a word that this version does not know."""
    return next((kind for kind in _KINDS if kind.code == code), None)


def revived(code: str, message: str, hint: str | None, next: str | None) -> SvcctlError | None:
    """An error as the API told it."""
    kind = kind_of(code)
    return None if kind is None else _revive(kind, message, hint, next)
