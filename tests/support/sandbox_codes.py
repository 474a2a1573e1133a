"""Code for sandboxes, and what its evaluation gives."""

from __future__ import annotations

from typing import NamedTuple

from journal.engine.recipes.evaluation import Evaluation


class CodeCase(NamedTuple):
    """A piece of code, and its evaluation; ``error`` is the end of the error's first line."""

    code: str
    evaluation: Evaluation
    error: str = ""


JAVASCRIPT = (
    CodeCase("1 + 1", Evaluation(value=2)),
    CodeCase(
        "const kept = {a: [1, null], b: 'é😀\\u2028'}; kept",
        Evaluation(value={"a": [1, None], "b": "é😀\u2028"}),
    ),
    CodeCase("kept.a.length", Evaluation(value=2)),
    CodeCase("undefined", Evaluation()),
    CodeCase("[10n]", Evaluation(value="10", is_repr=True)),
    CodeCase("10n", Evaluation(value="10n", is_repr=True)),
    CodeCase("NaN", Evaluation(value="NaN", is_repr=True)),
    CodeCase("new Map()", Evaluation(value="[object Map]", is_repr=True)),
    CodeCase("new Date(0)", Evaluation(value="1970-01-01T00:00:00.000Z")),
    CodeCase("Symbol('s')", Evaluation(value="Symbol(s)", is_repr=True)),
    CodeCase("await null; await (async () => 5)()", Evaluation(value=5)),
    CodeCase(
        "console.log('out'); std.err.puts('err'); 3",
        Evaluation(value=3, stdout=b"out\n", stderr=b"err"),
    ),
    CodeCase(
        "std.writeFile('a.txt', 'text'); os.mkdir('d'); std.writeFile('d/b', 'b')",
        Evaluation(files={"/work/a.txt": b"text", "/work/d/b": b"b"}),
    ),
    CodeCase(
        "os.remove('d/b'); std.writeFile('a.txt', 'more')",
        Evaluation(files={"/work/a.txt": b"more"}),
    ),
    CodeCase(
        "function fail() {\n  null.x\n}\nfail()",
        Evaluation(),
        "TypeError: cannot read property 'x' of null",
    ),
    CodeCase("throw null", Evaluation(), "Uncaught null"),
    CodeCase("throw {toString() { throw 1 }}", Evaluation(), "Uncaught value that has no text"),
    CodeCase("not code", Evaluation(), "SyntaxError: expecting ';'"),
    CodeCase("'x'.repeat(1 << 20)", Evaluation(), "write it to a file"),
    CodeCase("kept.self = kept; kept", Evaluation(value="[object Object]", is_repr=True)),
)
"""Pieces of code for one session of the QuickJS sandbox, in this order."""

PYTHON = (
    CodeCase("1 + 1", Evaluation(value=2)),
    CodeCase(
        "kept = {'a': (1, None), 'b': 'é😀\\x1e'}\nkept",
        Evaluation(value={"a": [1, None], "b": "é😀\x1e"}),
    ),
    CodeCase("len(kept)", Evaluation(value=2)),
    CodeCase("None", Evaluation()),
    CodeCase("{1}", Evaluation(value="{1}", is_repr=True)),
    CodeCase("math.inf", Evaluation(value="inf", is_repr=True)),
    CodeCase(
        "print('out'); import sys; print('err', file=sys.stderr); 3",
        Evaluation(value=3, stdout=b"out\n", stderr=b"err\n"),
    ),
    CodeCase(
        "import os\nos.mkdir('d')\nopen('d/b', 'w').close()\nopen('a.txt', 'w').write('text')",
        Evaluation(value=4, files={"/work/a.txt": b"text", "/work/d/b": b""}),
    ),
    CodeCase(
        "os.remove('d/b'); open('a.txt', 'a').write('!')",
        Evaluation(value=1, files={"/work/a.txt": b"text!"}),
    ),
    CodeCase(
        "import re\nre.sub(r'(\\w)(\\w*)', r'\\2\\1', 'some words')", Evaluation(value="omes ordsw")
    ),
    CodeCase(
        "def fail():\n    return {}['key']\nfail()",
        Evaluation(),
        "Traceback (most recent call last):",
    ),
    CodeCase("x = = 1", Evaluation(), '  File "<evaluation 12>", line 1'),
    CodeCase("raise SystemExit", Evaluation(), "Traceback (most recent call last):"),
    CodeCase("sorted(kept, key=lambda key: -ord(key))", Evaluation(value=["b", "a"])),
)
"""Pieces of code for one session of the Python sandbox with ``math``, in this order."""


def check_case(case: CodeCase, found: Evaluation) -> None:
    """Check the evaluation of a piece of code."""
    if not case.error:
        assert found == case.evaluation, case.code
        return
    assert found.error.splitlines()[0].endswith(case.error), (case.code, found)
    assert (found.value, found.files, found.is_alive) == (None, {}, True), case.code
