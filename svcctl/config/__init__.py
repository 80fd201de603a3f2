"""services.toml → Project, and what else is asked of the file. What writes it is in `edit`, imported where needed."""

from svcctl.config.explain import Explained, explain, line_of
from svcctl.config.file import NAME, find, read
from svcctl.config.project import load, load_text
from svcctl.config.values import check_value

__all__ = ["NAME", "Explained", "check_value", "explain", "find", "line_of", "load", "load_text", "read"]
