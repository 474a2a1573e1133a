"""A process that forks commands of journaltool, each to be stopped, traced, and killed.

A request is one line of JSON on standard input, an answer is one on standard output. Run by
``stracing.Forking``. It first runs some given command lines once, so that everything is imported.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

from journaltool.app import app

from tests.rigs.traced import stop

_NAME = "journaltool"


def _child(at: str, arguments: list[str], said: str) -> None:
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(at)
    stop()
    try:
        app(arguments, prog_name=_NAME)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else bool(end.code))
    except BaseException:
        traceback.print_exc()
        os._exit(70)


def _start(at: str, arguments: list[str], said: str) -> int:
    child = os.fork()
    if not child:
        _child(at, arguments, said)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    return child


def main() -> None:
    """Fork on request until the input ends."""
    for at, arguments in json.loads(sys.argv[1]):
        os.chdir(at)
        app(arguments, prog_name=_NAME, standalone_mode=False)
    for line in sys.stdin:
        question = json.loads(line)
        if question.pop("do") == "start":
            answer = _start(**question)
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(question["child"], 0)[1])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
