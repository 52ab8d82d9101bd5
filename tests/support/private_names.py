"""Find what the package uses of other packages although its name is private."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pgjobs_celery

PACKAGE = Path(pgjobs_celery.__file__).parent
#: Whose private names are listed.
OTHERS = ("celery", "kombu", "billiard", "psycopg")
#: Functions that take the name of an attribute.
BY_NAME = {"getattr", "hasattr", "setattr", "delattr"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_of_others(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in OTHERS


@cache
def trees() -> dict[Path, ast.Module]:
    """The package's modules, parsed."""
    return {
        path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))
    }


@cache
def find_names() -> dict[str, set[str]]:
    """Each private name of another object than ``self``, with the modules that use it.

    Also of ``self`` and of its base where nothing in the package defines it.
    """
    defined = {name for tree in trees().values() for name in _defined_in(tree)}
    found: dict[str, set[str]] = {}
    for path, tree in trees().items():
        for name, is_own in _used_in(tree):
            if is_private(name) and not (is_own and name in defined):
                found.setdefault(name, set()).add(path.relative_to(PACKAGE).as_posix())
    return found


def _used_in(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Each name that is used, and whether it is one of ``self``, or ``cls``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr, isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        elif isinstance(node, ast.ImportFrom) and node.module and is_of_others(node.module):
            is_internal = any(map(is_private, node.module.split(".")))
            for alias in node.names:
                yield f"_.{alias.name}" if is_internal else alias.name, False
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in BY_NAME
            and isinstance(node.args[1], ast.Constant)
        ):
            yield str(node.args[1].value), False


def _defined_in(tree: ast.AST) -> Iterator[str]:
    """The names of methods, and of the attributes that classes give themselves."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Assign):
            yield from (each.id for each in node.targets if isinstance(each, ast.Name))
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("self", "cls")
        ):
            yield node.attr


def find_overrides(mixins: dict[str, str]) -> dict[str, set[str]]:
    """Each private name that a class of ours shares with its base in another package.

    ``mixins`` names the bases that classes get elsewhere; both as ``module:Class``.
    """
    found: dict[str, set[str]] = {}
    for name in _module_names():
        module = importlib.import_module(name)
        for each in vars(module).values():
            if not inspect.isclass(each) or each.__module__ != name:
                continue
            bases = [base for base in each.__mro__ if is_of_others(base.__module__)]
            if mixed := mixins.get(f"{name}:{each.__name__}"):
                bases += load(mixed).__mro__
            theirs = {one for base in bases for one in names_of(base)}
            path = Path(inspect.getfile(module)).relative_to(PACKAGE).as_posix()
            for one in _names_in_source(each) & theirs:
                if is_private(one):
                    found.setdefault(one, set()).add(path)
    return found


def _module_names() -> Iterator[str]:
    for info in pkgutil.walk_packages([str(PACKAGE)], "pgjobs_celery."):
        # The models of Django's app need its settings; no class of Celery's is among them.
        if not info.name.startswith(("pgjobs_celery.django", "pgjobs_celery.testing")):
            yield info.name


def _names_in_source(each: type) -> set[str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
    except OSError:
        return set()
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("self", "cls")
    }
    return used | set(_defined_in(tree))


@cache
def names_of(owner: Any) -> frozenset[str]:
    """What a class or a module has, attributes included that its source assigns."""
    names = set(dir(owner))
    for each in getattr(owner, "__mro__", (owner,)):
        if not is_of_others(getattr(each, "__module__", owner.__name__)):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except OSError:
            continue  # made while it runs, or compiled
        names.update(
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        )
    return frozenset(names)


def load(owner: str) -> Any:
    """The module, or the class, of a name like ``kombu.connection:Connection``."""
    module, _, path = owner.partition(":")
    found: ModuleType | Any = importlib.import_module(module)
    for name in filter(None, path.split(".")):
        found = getattr(found, name)
    return found
