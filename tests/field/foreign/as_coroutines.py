"""Make the tasks of a module coroutines: Celery's integration tests then run them as such.

    python as_coroutines.py t/integration/tasks.py

``def`` becomes ``async def``, and what sleeps awaits; nothing else is changed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

#: Tasks that other tasks, or their tests, call as plain functions.
PLAIN = frozenset({"redis_echo", "redis_count"})


def main(path: Path) -> None:
    """Rewrite the file."""
    path.write_text(convert(path.read_text()))


def convert(source: str) -> str:
    """The source with its tasks as coroutines.

    >>> print(convert("@shared_task\\ndef nap(s):\\n    sleep(s)"))
    import asyncio
    @shared_task
    async def nap(s):
        await asyncio.sleep(s)
    """
    lines = source.splitlines()
    changes: list[tuple[int, int, str, str]] = []
    for function in _find_tasks(ast.parse(source)):
        changes.append((function.lineno, function.col_offset, "def ", "async def "))
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "sleep":
                changes.append((node.lineno, node.col_offset, "sleep", "await asyncio.sleep"))
    for number, column, before, after in sorted(changes, reverse=True):
        line = lines[number - 1]
        assert line[column:].startswith(before), line
        lines[number - 1] = line[:column] + after + line[column + len(before) :]
    return "\n".join(["import asyncio", *lines])


def _find_tasks(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(ast.unparse(b) == "Task" for b in node.bases):
            yield from (f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "run")
        if not isinstance(node, ast.FunctionDef) or node.name in PLAIN:
            continue
        if any(ast.unparse(each).startswith("shared_task") for each in node.decorator_list):
            yield node


if __name__ == "__main__":
    main(Path(sys.argv[1]))
