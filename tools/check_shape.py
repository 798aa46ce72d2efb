"""Hold the style guide's sizes: modules of 350 lines, functions of 40 besides their docstrings.

python tools/check_shape.py src tools
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

_MODULE_LINES = 350
_FUNCTION_LINES = 40


def main(roots: list[str]) -> int:
    """Print each breach as `file:line: what`; return the exit code."""
    files = sorted(path for root in roots for path in Path(root).rglob("*.py"))
    breaches = [breach for path in files for breach in breaches_in(path)]
    for breach in breaches:
        print(breach, file=sys.stderr)
    print(f"{len(files)} modules measured, {len(breaches)} breaches")
    return 1 if breaches else 0


def breaches_in(path: Path) -> list[str]:
    """Return what is too long in one module."""
    text = path.read_text()
    length = len(text.splitlines())
    found = [f"{path}:1: {length} lines; a module has {_MODULE_LINES}"]
    breaches = found if length > _MODULE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = _length(node)
        if length > _FUNCTION_LINES:
            message = f"{node.name} has {length} lines; a function has {_FUNCTION_LINES}"
            breaches.append(f"{path}:{node.lineno}: {message}")
    return breaches


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return total
    docstring = function.body[0]
    return total - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
