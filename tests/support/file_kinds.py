"""Files of every kind below a temporary directory.

Devices are new nodes. A test of a target never names a device in /dev: if the library replaced it,
the machine would lose the device.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import chdir
from pathlib import Path

import pytest

SPECIAL = ("FIFO", "socket", "character device")
"""The kinds of files that are neither read nor replaced, as messages name them."""

_NULL_DEVICE = os.makedev(1, 3)


def make_special(path: Path, kind: str) -> os.stat_result:
    """Make a file of a special kind, and return its status."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    else:
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, _NULL_DEVICE)
        except PermissionError:
            pytest.skip("only root makes devices")
    return path.lstat()
