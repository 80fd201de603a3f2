"""Where a plan looked, and how to tell that somebody changed what is there (`racing`)."""

from collections.abc import Iterable

from svcctl.backend.store.database import Statement

_STORE = "(SELECT change FROM records WHERE environment = '' ORDER BY seq DESC LIMIT 1) > ?"
_NAMES = (
    "EXISTS (SELECT 1 FROM environments e JOIN unnest(CAST(? AS text[]), CAST(? AS text[])) AS looked (service, name) "
    "ON e.service = looked.service AND e.name = looked.name WHERE e.changed > ?)"
)
_SERVICES = "EXISTS (SELECT 1 FROM environments WHERE service = ANY(?) AND changed > ?)"
_BOUND = (
    "EXISTS (SELECT 1 FROM bindings b JOIN environments e ON e.id = b.environment "
    "WHERE b.service = ANY(?) AND e.changed > ?)"
)
_ROUTES = "EXISTS (SELECT 1 FROM routes r JOIN environments e ON e.id = r.environment WHERE e.changed > ?)"


class Footprint:
    """Services, projects and tokens, which have a chain of their own, always count as looked at."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        """Of environments."""
        self.names: set[tuple[str, str]] = set()
        """(service, environment), also where there was none."""
        self.services: set[str] = set()
        """All environments of them."""
        self.bound: set[str] = set()
        """Services for whom it was asked who is bound to them."""
        self.routes = False
        """All routes."""

    def guards(self, since: int) -> Iterable[Statement]:
        """Conditions that are true once somebody changed what was looked at."""
        yield _STORE, (since,)
        if self.ids:
            yield "EXISTS (SELECT 1 FROM environments WHERE id = ANY(?) AND changed > ?)", (sorted(self.ids), since)
        if self.names:
            services, names = zip(*sorted(self.names), strict=True)
            yield _NAMES, (list(services), list(names), since)
        if self.services:
            yield _SERVICES, (sorted(self.services), since)
        if self.bound:
            yield _BOUND, (sorted(self.bound), since)
        if self.routes:
            yield _ROUTES, (since,)
