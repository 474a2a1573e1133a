"""Imitations of Windows and macOS: a process without the modules and functions that they lack.

``python -m tests.support.other_platforms SYSTEM PROGRAM [ARGUMENT...]`` imitates ``windows`` or
``macos``, then runs a file of Python code.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import select
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
LINUX_FUNCTIONS = {
    *("copy_file_range", "eventfd", "eventfd_read", "eventfd_write", "fdatasync", "getrandom"),
    *("memfd_create", "pidfd_open", "pipe2", "posix_fadvise", "posix_fallocate", "preadv2"),
    *("pwritev2", "sched_getaffinity", "sched_setaffinity", "setns", "splice", "unshare"),
}
POSIX_FUNCTIONS = {
    *("chown", "chroot", "confstr", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid"),
    *("getgid", "getgroups", "getpgid", "getpgrp", "getpriority", "getsid", "getuid", "killpg"),
    *("lchown", "lockf", "mkfifo", "mknod", "nice", "openpty", "pathconf", "posix_spawn", "pread"),
    *("preadv", "pwrite", "pwritev", "readv", "sendfile", "set_blocking", "setsid", "statvfs"),
    *("sync", "sysconf", "ttyname", "uname", "wait", "wait3", "wait4", "writev"),
}
LINUX_CONSTANTS = ("EFD_", "GRND_", "MFD_", "O_PATH", "O_TMPFILE", "POSIX_FADV_")
POSIX_CONSTANTS = (
    *("F_LOCK", "F_TEST", "F_TLOCK", "F_ULOCK", "O_ASYNC", "O_CLOEXEC", "O_DIRECTORY", "O_DSYNC"),
    *("O_NDELAY", "O_NOATIME", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_RSYNC", "O_SYNC"),
    *("PRIO_", "SCHED_", "SEEK_DATA", "SEEK_HOLE"),
)
WINDOWS_SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL"}
WINDOWS_SIGNAL_FUNCTIONS = {"default_int_handler", "getsignal", "raise_signal", "set_wakeup_fd"}


class MissingModules:
    """Import hook that finds no module of the given names."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse the missing modules, and leave others to the next finder."""
        if name in self._names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def remove_attributes(module: ModuleType, is_missing: Callable[[str], bool]) -> None:
    """Delete the attributes of a module that the imitated system lacks."""
    for name in list(vars(module)):
        if is_missing(name):
            delattr(module, name)


def remove_modules(names: set[str]) -> None:
    """Make modules impossible to import."""
    sys.meta_path.insert(0, MissingModules(names))
    for name in names:
        sys.modules.pop(name, None)


def imitate_macos() -> None:
    """Remove the parts of Linux that macOS lacks."""
    remove_attributes(os, lambda name: name in LINUX_FUNCTIONS or name.startswith(LINUX_CONSTANTS))
    remove_attributes(select, lambda name: name.startswith(("epoll", "EPOLL")))
    remove_attributes(signal, lambda name: name in ("pidfd_send_signal", "sigtimedwait"))
    restrict_libraries(lambda name: name.startswith(("inotify", "prctl", "renameat2")))


def imitate_windows() -> None:
    """Remove the parts of Linux that Windows lacks."""
    remove_modules(POSIX_MODULES)
    kept_signals = WINDOWS_SIGNALS | {"SIG_IGN"}
    remove_attributes(
        os,
        lambda name: (
            name in LINUX_FUNCTIONS | POSIX_FUNCTIONS
            or name.startswith(LINUX_CONSTANTS + POSIX_CONSTANTS)
        ),
    )
    remove_attributes(select, lambda name: name.lower().startswith(("poll", "epoll")))
    remove_attributes(
        signal,
        lambda name: (
            (name.startswith(("SIG", "ITIMER")) and name not in kept_signals)
            or name in ("alarm", "pause", "pidfd_send_signal", "pthread_kill", "pthread_sigmask")
            or name in ("setitimer", "getitimer", "siginterrupt", "sigpending", "sigwait")
        ),
    )
    restrict_directories()
    restrict_libraries(None)


def restrict_directories() -> None:
    """Make it impossible to open a directory, or a file relative to a directory."""
    real_open, real_scandir, real_stat = os.open, os.scandir, os.stat

    def open_file(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        if os.path.isdir(path):  # noqa: PTH112 # The path may be bytes.
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, flags, mode)

    def scan_directory(path: Any = ".") -> Any:
        if isinstance(path, int):
            raise TypeError("scandir: path should be string, bytes or os.PathLike, not int")
        return real_scandir(path)

    def get_status(path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Any:
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        return real_stat(path, follow_symlinks=follow_symlinks)

    os.open, os.scandir, os.stat = open_file, scan_directory, get_status
    os.supports_dir_fd.clear()
    os.supports_fd.clear()


def restrict_libraries(is_missing: Callable[[str], bool] | None) -> None:
    """Hide functions of the C library, or with None the library itself."""
    real = ctypes.CDLL

    class Library(real):  # type: ignore[misc, valid-type]
        def __init__(self, name: Any, *args: Any, **kwargs: Any) -> None:
            if name is None and is_missing is None:
                raise TypeError("argument 1 must be str, not None")
            super().__init__(name, *args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            if is_missing is not None and is_missing(name):
                raise AttributeError(f"symbol not found: {name}")
            return super().__getattr__(name)

    ctypes.CDLL = Library  # type: ignore[misc]


SYSTEMS = {"macos": imitate_macos, "windows": imitate_windows}


def main() -> None:
    """Imitate a system, and run a program."""
    system, program, *arguments = sys.argv[1:]
    SYSTEMS[system]()
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
