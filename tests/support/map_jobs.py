"""Functions that worker processes of ``map`` call in tests. The module is quick to import."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from journal.errors import MalformedEvent

BLOCK_SIZE = 1 << 20


def behave(path: Path) -> Any:
    """Do what the file at ``path`` says."""
    text = path.read_text()
    if text == "raise":
        raise MalformedEvent("the payload is wrong", 7)
    if text == "bug":
        raise ZeroDivisionError("a bug")
    if text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if text == "exit":
        sys.exit(3)
    if text == "hang":
        note_begin(path)
        time.sleep(1 << 20)
    if text == "unsendable":
        return lambda: None
    if text == "memory":
        return len([bytearray(BLOCK_SIZE) for _ in range(1 << 10)])
    if text == "after the others":
        while len(list(path.parent.glob("*.begun"))) < 2:
            time.sleep(0.001)
    note_begin(path)
    return text


def note_begin(path: Path) -> None:
    """Create a file beside ``path`` that has the number of this process."""
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(str(os.getpid()))
    temporary.rename(path.with_suffix(".begun"))


def count_calls(path: Path, fixed: str = "") -> list[str]:
    """Return the text of a file, and add a letter to the file beside it."""
    with path.with_suffix(".calls").open("a") as file:
        file.write("x")
    return [fixed, path.read_text()]


def rewrite(path: Path) -> str:
    """Replace a file by its text in capitals."""
    path.write_text(path.read_text().upper())
    return path.read_text()


def return_bytes(path: Path) -> bytes:
    """Return a value that JSON does not have."""
    return b""


def behave_as_values(path: Path) -> dict[str, Any]:
    """Do what the file at ``path`` says, and return a result such as a command has."""
    return {"journal": str(path), "verdict": behave(path)}
