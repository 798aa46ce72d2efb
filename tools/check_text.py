"""Hold the rules that no linter knows: what must not stand in any file of the repository.

A TODO names its issue (`TODO(#12)`); no file names a package registry's host, or a path of the
machine that it was written on.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# In pieces, so that this file passes its own check.
_HOSTS = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("crates", "io"),
    ("golang", "org"),
    ("deb.debian", "org"),
)
_TODO = "TO" + "DO"
_RULES = {
    "a package registry's host": re.compile("|".join(re.escape(".".join(h)) for h in _HOSTS)),
    "an absolute path of one machine": re.compile(r"(?<![\w.~}$-])/(?:root|work|Users|home)/\w"),
    f"a {_TODO} without its issue number": re.compile(rf"\b{_TODO}\b(?!\(#\d+\))"),
}
_EXEMPT = {"tools/check_text.py", "LICENSE", "pyproject.toml"}


def main() -> int:
    """Print each breach as `file:line: what`; return the exit code."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
    )
    names = sorted({name.decode() for name in listed.stdout.split(b"\0") if name})
    breaches = [breach for name in names if name not in _EXEMPT for breach in breaches_in(name)]
    for breach in breaches:
        print(breach, file=sys.stderr)
    print(f"{len(names)} files read, {len(breaches)} breaches")
    return 1 if breaches else 0


def breaches_in(name: str) -> list[str]:
    """Return the breaches of one file; none of a binary or a deleted one."""
    try:
        lines = Path(name).read_text().splitlines()
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return []
    return [
        f"{name}:{number}: {what}"
        for number, line in enumerate(lines, 1)
        for what, pattern in _RULES.items()
        if pattern.search(line)
    ]


if __name__ == "__main__":
    sys.exit(main())
