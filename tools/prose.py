"""Check of the prose: the share of docstrings and comments that rest on a relative clause.

    python tools/prose.py [--list] [FOLDER ...]

A first sentence that starts with "what", "who" or "those that", or that hangs on such a clause,
makes a reader search for its subject. The share of such first sentences in docstrings, and of such
beginnings of comments, must not exceed ``SHARE_MAX``. ``--list`` prints each of them.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("journal", "cli", "tools", "demo", "examples")
SHARE_MAX = 0.03
"""The share that is tolerated. Dulwich has 0.006, borg 0.03 and mcap 0.08 by the same count."""

_STARTS = re.compile(
    r"^(what|who|whom|whose|where|which|whether|how|all that|all of what|those that|that which"
    r"|those who|one that|ones that|the one that|as)\b",
    re.IGNORECASE,
)
_RESTS = re.compile(r"\b(what|who|those that|those who|all that|where) \w+", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s")


class Sentence(NamedTuple):
    """The first sentence of a docstring, or of a comment."""

    path: Path
    line: int
    text: str

    @property
    def is_hard(self) -> bool:
        """Return whether the sentence rests on a relative clause."""
        return bool(_STARTS.match(self.text) or _RESTS.search(self.text))


def docstrings(path: Path, source: str) -> Iterator[Sentence]:
    """Yield the first sentence of each docstring, docstrings of attributes included."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for child in node.body:
            match child:
                case ast.Expr(value=ast.Constant(value=str() as text)):
                    yield Sentence(path, child.lineno, _SENTENCE_END.split(text.strip())[0])


def comments(path: Path, source: str) -> Iterator[Sentence]:
    """Yield the beginning of each comment; comments on consecutive lines are one comment."""
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, text = token.start[0], token.string.lstrip("#:! ")
        is_own_line = not token.line[: token.start[1]].strip()
        if text and (line != last + 1 or not is_own_line):
            yield Sentence(path, line, _SENTENCE_END.split(text)[0])
        last = line if is_own_line else -1


def main() -> int:
    """Print the share, and fail if it is too large."""
    arguments = sys.argv[1:]
    is_listed = "--list" in arguments
    folders = [Path(name) for name in arguments if name != "--list"]
    folders = folders or [ROOT / name for name in FOLDERS]
    is_too_large = False
    for name, find in (("docstrings", docstrings), ("comments", comments)):
        sentences = [
            sentence
            for folder in folders
            for path in sorted(folder.rglob("*.py"))
            for sentence in find(path, path.read_text())
        ]
        hard = [sentence for sentence in sentences if sentence.is_hard]
        if is_listed:
            print(
                *(f"{sentence.path}:{sentence.line}: {sentence.text}" for sentence in hard),
                sep="\n",
            )
        share = len(hard) / max(len(sentences), 1)
        is_too_large |= share > SHARE_MAX
        print(
            f"{len(hard)} of {len(sentences)} {name} ({share:.1%}) rest on a relative clause; "
            f"{SHARE_MAX:.0%} are allowed"
        )
    if is_too_large:
        print("name the subject first; python tools/prose.py --list shows each sentence")
    return int(is_too_large)


if __name__ == "__main__":
    raise SystemExit(main())
