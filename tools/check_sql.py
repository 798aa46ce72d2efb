"""Parse every .sql file below a directory, and the body of every function in it, without a server.

python tools/check_sql.py sql
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pglast import ast, parse_plpgsql, parse_sql
from pglast.parser import ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Without a server, types are looked up in the schema public only.
_OUR_SCHEMAS = re.compile(r"\bpgprog(_data|_engine)?\.")
_FAULT_LENGTH = 500


def main(roots: list[str]) -> int:
    """Print each fault as `file: what is wrong`; return the exit code."""
    files = sorted(path for root in roots for path in Path(root).rglob("*.sql"))
    faults = [f"{path}: {fault}" for path in files for fault in faults_in(path.read_text())]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(files)} SQL files parsed, {len(faults)} faults")
    return 1 if faults or not files else 0


def faults_in(text: str) -> Iterator[str]:
    """Yield what is wrong with a file of SQL."""
    try:
        statements = parse_sql(text)
    except ParseError as e:
        yield str(e)
        return
    for statement in statements:
        start, length = statement.stmt_location or 0, statement.stmt_len or len(text)
        source = text[start : start + length].strip()
        try:
            check_body(statement.stmt, source=source)
        except ParseError as e:
            yield f"a body in {str(e)[:_FAULT_LENGTH]}"


def check_body(node: ast.Node | None, *, source: str) -> None:
    """Parse the body of a function or a DO block, which SQL itself takes for a string.

    Raises:
        ParseError: It is not what its language says.
    """
    match node:
        case ast.CreateFunctionStmt():
            options = {option.defname: option.arg for option in node.options or ()}
        case ast.DoStmt():
            options = {option.defname: option.arg for option in node.args or ()}
            options.setdefault("language", ast.String("plpgsql"))
        case _:
            return
    language = options["language"].sval if "language" in options else "sql"
    if language == "plpgsql":
        parse_plpgsql(_OUR_SCHEMAS.sub("public.", source))
    elif language == "sql" and "as" in options:
        parse_sql(options["as"][0].sval)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
