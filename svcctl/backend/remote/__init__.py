"""A backend on another machine, over its HTTP API. Importing it imports httpx."""

from svcctl.backend.remote.remote import Remote

__all__ = ["Remote"]
