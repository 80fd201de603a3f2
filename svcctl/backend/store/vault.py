"""Secrets of the store: sealed for their environment, under a key that is not in the ledger."""

from svcctl.model import Sealed
from svcctl.rules.state import Plan
from svcctl.backend.store.connection import Database
from pathlib import Path


class Vault:
    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
        self._db = database

    def keep(self, plan: Plan) -> None:
        pass

    def seal(self, *a: object) -> Sealed:
        raise NotImplementedError
