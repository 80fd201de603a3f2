"""What ends a request that goes too far. Handlers may catch these; those they do not catch become the answer's status.

LimitExceeded
├── CallDepthExceeded    508  bindings that call each other deeper than 32
├── TooManySubrequests   508  more calls and outbound requests than one request may make
└── Unavailable          503  what a binding reaches can't answer now
"""

from svcctl.runtime.invocation import DEPTH, SUBREQUESTS, Invocation

_SHOWN = 6
"""Places of a chain that an error names."""


class LimitExceeded(Exception):
    status = 508


class CallDepthExceeded(LimitExceeded):
    def __init__(self, invocation: Invocation, target: str) -> None:
        chain = [*invocation.chain, target]
        shown = [*chain[: _SHOWN - 2], "…", *chain[-2:]] if len(chain) > _SHOWN else chain
        super().__init__(f"service bindings call each other more than {DEPTH} deep: {' → '.join(shown)}")


class TooManySubrequests(LimitExceeded):
    def __init__(self) -> None:
        super().__init__(f"one request may make {SUBREQUESTS} calls of bindings and outbound requests, not more")


class Unavailable(LimitExceeded):
    status = 503
