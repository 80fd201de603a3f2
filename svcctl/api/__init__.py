"""The HTTP API over any Authority: what a team shares. docs/api.md has its routes and rules."""

from svcctl.api.app import ROUTES, Api

__all__ = ["ROUTES", "Api"]
