"""A backend on another machine, over its HTTP API. Importing it imports httpx."""

from svcctl.backend.remote.remote import Remote, Seen
from svcctl.backend.remote.session import HASTY, PATIENT, Patience

__all__ = ["HASTY", "PATIENT", "Patience", "Remote", "Seen"]
