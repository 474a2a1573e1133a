"""Access request of a journal: the directories, the module file and the network that it names."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from journal.engine.wasi.filesystem.mounts import HostMount

_PATH_SIZE_MAX = 4096
"""Largest size of a path on Linux."""


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """Access to the host that a resume of one journal needs.

    ``module_path`` is the file of the module, or empty if the journal contains the module.
    ``files_size`` is the limit of the guest's files in memory in bytes, or 0 if it is not above the
    default of ``ResourcePolicy``. ``listeners`` are the addresses at which the guest listens from
    its start, and ``rules`` the network policy of its recording, both as the command line takes
    them.
    """

    journal_id: bytes
    module_hash: bytes
    mounts: tuple[HostMount, ...] = ()
    module_path: str = ""
    files_size: int = 0
    listeners: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether a resume needs nothing of the host."""
        has_files = bool(self.mounts or self.module_path or self.files_size)
        return not has_files and not self.listeners and not self.rules

    def describe(self) -> tuple[str, ...]:
        """Return one phrase for each directory, the module file, and each part of the network."""
        return tuple(self._describe())

    def _describe(self) -> Iterator[str]:
        for mount in self.mounts:
            access = "read-only" if mount.read_only else "writable"
            yield f"the directory {_quote(mount.host)} as {_quote(mount.guest)}, {access}"
        if self.module_path:
            yield f"the module file {_quote(self.module_path)}"
        if self.files_size:
            yield f"{self.files_size} bytes of files in memory"
        yield from (f"a listener at {address}" for address in self.listeners)
        yield from (f"the network rule {quote_argument(rule)}" for rule in self.rules)

    def list_options(self) -> tuple[str, ...]:
        """Return the options of journaltool that grant everything, quoted for a shell."""
        options = [f"--dir {quote_argument(format_directory(mount))}" for mount in self.mounts]
        if self.module_path:
            options.append(f"--module {quote_argument(self.module_path)}")
        if self.files_size:
            options.append(f"--max-files {self.files_size}")
        options += [f"--tcp-listen {address}" for address in self.listeners]
        options += [f"--net {quote_argument(rule)}" for rule in self.rules]
        return tuple(options)


def _quote(path: str) -> str:
    """Return a path on one line. The user decides by it, so that only absurd ones are cut."""
    text = repr(path[:_PATH_SIZE_MAX])
    return text if len(path) <= _PATH_SIZE_MAX else f"{text}…"


def format_directory(mount: HostMount) -> str:
    """Return a directory as ``--dir`` takes it."""
    return f"{mount.host}::{mount.guest}{':ro' if mount.read_only else ''}"


def quote_argument(text: str) -> str:
    """Return an argument for a shell, without characters that control a terminal."""
    if text.isprintable():
        return shlex.quote(text)
    data = text.encode("utf-8", "surrogateescape")
    return f"$'{''.join(map(_escape_byte, data))}'"


def _escape_byte(byte: int) -> str:
    is_plain = 0x20 <= byte < 0x7F and byte not in b"'\\"
    return chr(byte) if is_plain else f"\\x{byte:02x}"
