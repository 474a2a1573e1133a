"""Real file systems on loop devices or in memory: make, mount, detach, reliably unmount."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rigs import fused

KINDS = ("ext4", "xfs", "btrfs")
_MEBIBYTE = 1 << 20
_SIZES = {"ext4": 48 * _MEBIBYTE, "xfs": 320 * _MEBIBYTE, "btrfs": 160 * _MEBIBYTE}
_MAKING = {
    "ext4": ("-q", "-F", "-J", "size=4", "-E", "lazy_itable_init=0,nodiscard"),
    "xfs": ("-q", "-f", "-K"),
    "btrfs": ("-q", "-f", "-K", "-m", "single"),
}
_MOUNTING = {"ext4": "loop", "xfs": "loop,nouuid", "btrfs": "loop"}
_SHUTDOWN = 0x8004587D
_SHUTDOWN_WITHOUT_LOG = 2


def make_image(kind: str, path: Path) -> None:
    """Make a file with an empty file system of a kind."""
    with path.open("wb") as file:
        file.truncate(_SIZES[kind])
    command = [f"mkfs.{kind}", *_MAKING[kind], str(path)]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def mounted(kind: str, image: Path, mount_point: Path) -> Iterator[Path]:
    """Mount an image at a directory that is created for it."""
    mount_point.mkdir()
    try:
        mount(kind, image, mount_point)
        try:
            yield mount_point
        finally:
            unmount(mount_point)
    finally:
        mount_point.rmdir()


@contextmanager
def mounted_in_memory(mount_point: Path, size: int) -> Iterator[Path]:
    """Mount a file system of a size in bytes, whose disk is the memory."""
    mount_point.mkdir()
    options = ["-o", f"size={size}", "none"]
    subprocess.run(["mount", "-t", "tmpfs", *options, str(mount_point)], check=True)
    try:
        yield mount_point
    finally:
        unmount(mount_point)
        mount_point.rmdir()


def mount(kind: str, image: Path, mount_point: Path) -> None:
    """Mount an image; its loop device is released with the mount."""
    command = ["mount", "-t", kind, "-o", _MOUNTING[kind], str(image), str(mount_point)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert not done.returncode, f"{kind} cannot be mounted: {done.stderr.strip()}"


def unmount(mount_point: Path) -> None:
    """Unmount now if the mount is unused, else when it is."""
    command = ["umount", str(mount_point)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        fused.detach(mount_point)


def shut_down(mount_point: Path) -> None:
    """Detach a file system from its disk, and lose the page cache."""
    descriptor = os.open(mount_point, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _SHUTDOWN_WITHOUT_LOG))
    finally:
        os.close(descriptor)
