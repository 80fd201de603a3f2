"""Files → artifact: which files of a service belong, that they are safe to keep, and the manifest that names them."""

from svcctl.bundle.artifact import Bundle, build

__all__ = ["Bundle", "build"]
