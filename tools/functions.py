"""Check of the length of functions: at most 50 lines, or a reason in the line of the ``def``.

    python tools/functions.py

The reason is a comment such as ``def record(  # long: each option is a documented parameter``.
The docstring counts, decorators do not. ruff checks the complexity (C901).
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (
    *("journal", "cli", "tests", "fixtures", "spec"),
    *("benchmarks", "demo", "examples", "tools"),
)
LINES_MAX = 50
_REASON = re.compile(r"# long: \w")


def long_functions(path: Path) -> Iterator[str]:
    """Yield one line for each function of a file that is too long and states no reason."""
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        count = (node.end_lineno or node.lineno) - node.lineno + 1
        if count > LINES_MAX and not _REASON.search(lines[node.lineno - 1]):
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {count} lines"


def main() -> int:
    """Print the functions that are too long; return the exit code."""
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    found = [line for path in paths for line in long_functions(path)]
    for line in found:
        print(line)
    if found:
        print(f"split each, or give a reason for more than {LINES_MAX} lines: `# long: REASON`")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
