"""What there is to run, as of one change: every living environment with its head, and what each change alters."""

from collections.abc import Iterable, Iterator

from svcctl.backend.base import Followed
from svcctl.model import Deployment, EnvironmentId
from svcctl.rules import closure
from svcctl.rules.state import Place


class Landscape:
    """A Lookup (rules.closure) in memory."""

    def __init__(self) -> None:
        self.store = ""
        self.number = 0
        self._places: dict[EnvironmentId, Place] = {}
        self._by_name: dict[tuple[str, str], EnvironmentId] = {}
        self._chosen: dict[EnvironmentId, Place] = {}
        self._standing: dict[str, Place] = {}

    def take(self, followed: Followed, *, whole: bool = False) -> None:
        """Another store's news replace everything, and so do those that are `whole`."""
        if whole or followed.store != self.store:
            self._places.clear()
            self._by_name.clear()
            self.store = followed.store
        self.number = followed.number
        for place in followed.places:
            self._forget(place.identity.id)
            self._places[place.identity.id] = place
            if not place.identity.deleted:
                self._by_name[place.identity.service, place.identity.name] = place.identity.id

    def choosing(self, places: Iterable[Place], services: Iterable[Place] = ()) -> "Landscape":
        """A view in which `places` are as given, and each of `services` stands wherever its service is reached."""
        view = Landscape()
        view.__dict__.update(self.__dict__)
        view._chosen = {place.identity.id: place for place in places}  # its own kind
        view._standing = {place.identity.service: place for place in services}
        return view

    def _forget(self, id: EnvironmentId) -> None:
        known = self._places.get(id)
        if known and self._by_name.get((known.identity.service, known.identity.name)) == id:
            del self._by_name[known.identity.service, known.identity.name]

    def living(self) -> Iterator[Place]:
        return (self._places[id] for id in self._by_name.values())

    def everything(self) -> Followed:
        """All that is known, to be kept for a start without the backend."""
        return Followed(store=self.store, number=self.number, places=tuple(self._places.values()))

    def addresses(self) -> Iterator[tuple[str, EnvironmentId]]:
        """Every hostname and route, and whose it is."""
        for place in self.living():
            if place.identity.hostname:
                yield place.identity.hostname, place.identity.id
            for route in place.identity.routes:
                yield route, place.identity.id

    def deployment(self, place: Place) -> Deployment:
        return closure.deployment(place, self)

    # ---- the look-up

    def place(self, service: str, name: str) -> Place | None:
        if service in self._standing:
            return self._standing[service]
        id = self._by_name.get((service, name))
        return self.by_id(id) if id else None

    def by_id(self, id: EnvironmentId) -> Place | None:
        if id in self._chosen:
            return self._chosen[id]
        place = self._places.get(id)
        return self._standing.get(place.identity.service, place) if place else None

    def former(self, service: str, name: str) -> EnvironmentId | None:  # noqa: ARG002 - asked only when versions are made
        return None
