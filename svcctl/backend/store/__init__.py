"""The store on this machine."""

from svcctl.backend.store.store import Store

__all__ = ["Store"]
