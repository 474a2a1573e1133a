"""Requirements of the rigs on the machine, and the reasons to skip tests."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest


def mark(reason: str) -> pytest.MarkDecorator:
    """Skip a test if there is a reason."""
    return pytest.mark.skipif(bool(reason), reason=reason)


@cache
def why_no_fuse() -> str:
    """Return the reason why no FUSE file system can be mounted; empty if it can."""
    if os.geteuid():
        return "Mounting a file system takes root."
    if not Path("/dev/fuse").exists():
        return "There is no /dev/fuse."
    try:
        importlib.import_module("mfusepy")
    except (ImportError, OSError) as error:
        return f"mfusepy or libfuse is not installed: {error}."
    return "" if _may_mount() else "This root may not mount anything."


@cache
def why_no_tmpfs() -> str:
    """Return the reason why no file system in memory can be mounted; empty if it can."""
    if os.geteuid():
        return "Mounting a file system takes root."
    return "" if _may_mount() else "This root may not mount anything."


@cache
def why_no_disk(kind: str) -> str:
    """Return the reason why no file system of this kind can be mounted; empty if it can."""
    for tool in (f"mkfs.{kind}", "losetup", "mount"):
        if shutil.which(tool) is None:
            return f"There is no {tool}."
    if not any(line.split()[-1] == kind for line in _file_systems()):
        return f"The kernel does not know {kind}."
    if why_no_fuse():
        return why_no_fuse()
    found = subprocess.run(["losetup", "--find"], capture_output=True, check=False)
    return "There is no loop device." if found.returncode else ""


@cache
def why_no_strace() -> str:
    """Return the reason why no process can be traced; empty if it can."""
    if shutil.which("strace") is None:
        return "There is no strace."
    command = ["strace", "-f", "-o", os.devnull, "-e", "inject=getppid:error=EPERM:when=1", "true"]
    code = subprocess.run(command, capture_output=True, check=False).returncode
    return "strace may not trace here." if code else ""


@cache
def why_no_shell(name: str) -> str:
    """Return the reason why a shell is not available; empty if it is."""
    return "" if shutil.which(name) else f"There is no {name}."


def _may_mount() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff"))
    return bool(int(effective.split()[1], 16) >> 21 & 1)  # CAP_SYS_ADMIN


def _file_systems() -> list[str]:
    if shutil.which("modprobe"):
        command = ["modprobe", "-aq", "loop", "ext4", "xfs", "btrfs"]
        subprocess.run(command, check=False, capture_output=True)
    return Path("/proc/filesystems").read_text().splitlines()
