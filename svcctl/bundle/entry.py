"""The entry file: compiled and searched for a handler before anything is uploaded. None of its code runs."""

import ast
import sys
import warnings

from svcctl.errors import Refused
from svcctl.names import did_you_mean
from svcctl.text import clean

_HANDLERS = frozenset({"Default", "fetch", "on_fetch", "app", "application"})
_WHAT_ONE_LOOKS_LIKE = """a handler is, at the top level of the file, one of
  class Default(WorkerEntrypoint):      with  async def fetch(self, request)
  async def fetch(request, env, ctx):   or on_fetch
  app = ...                             an ASGI or WSGI application; for another name: main = "worker.py:name\""""


def check_entry(content: bytes, shown: str, name: str | None, python: str | None) -> None:
    """`name` is what follows the colon in `main`; `python` the declared version. Raises Refused."""
    tree = _parsed(content, shown, python)
    if tree is None:
        return
    bound = _Bound()
    bound.visit(tree)
    if bound.anything:
        return
    first = name.partition(".")[0] if name else None
    if first and first not in bound.names:
        raise Refused(
            f"{clean(shown)} has no {first} at its top level, which main names",
            hint=did_you_mean(first, bound.names),
        )
    if not first and not bound.entrypoint and not _HANDLERS & (bound.names - bound.of_workers):
        raise Refused(f"{clean(shown)} has no handler", hint=_WHAT_ONE_LOOKS_LIKE)


def _parsed(content: bytes, shown: str, python: str | None) -> ast.Module | None:
    """None for code that only a newer Python than this one may understand."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(content, filename=shown)
            compile(tree, shown, "exec", dont_inherit=True)
    except SyntaxError as error:
        if python and _minor(python) > sys.version_info.minor:
            return None
        line = f"\n    {clean(error.text.strip())}" if error.text else ""
        where = f"{clean(shown)}:{error.lineno}" if error.lineno else clean(shown)
        raise Refused(f"{where}: {error.msg}{line}", hint="nothing was uploaded") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Refused(f"{clean(shown)} can't be compiled: {error}", hint="nothing was uploaded") from error
    return tree


def _minor(python: str) -> int:
    return int(python.split(".")[1])


class _Bound(ast.NodeVisitor):
    """The names that a module binds at its top level, however deep in `if` and `try`, as far as can be seen."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.of_workers: set[str] = set()
        """Imported from `workers`: its `fetch` is the outbound one, no handler."""
        self.entrypoint = False
        self.anything = False
        """A star import or a module's `__getattr__` may bind any name."""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.names.add(node.name)
        self.entrypoint |= "WorkerEntrypoint" in {_last(base) for base in node.bases}

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.names.add(node.name)
        self.anything |= node.name == "__getattr__"

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Import(self, node: ast.Import) -> None:
        self.names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        imported = {alias.asname or alias.name for alias in node.names}
        self.names |= imported
        if node.module == "workers" and not node.level:
            self.of_workers |= imported
        self.anything |= "*" in imported

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.names.add(node.id)


def _last(base: ast.expr) -> str | None:
    return base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else None
