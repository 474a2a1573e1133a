"""Placement of files in a mount before the guest starts."""

from typing import Any, TypeVar

from journal.events.paths import FilePlaced, FileType
from journal.events.wire_types import decode_path
from journal.vfs.backend import FileBackend
from journal.vfs.errors import FileError
from journal.vfs.path_resolution import check_name, check_path
from journal.wasi_abi import Errno

D = TypeVar("D")


def place_file(backend: FileBackend[D, Any], names: list[str], event: FilePlaced, now: int) -> None:
    """Put a file, a directory or a link in place before the guest starts, at ``names``.

    The names are relative to the root of the mount. Raises ``FileError`` for an invalid or an
    impossible placement.
    """
    _check_placement(names, event)
    is_directory = event.kind is FileType.DIRECTORY
    at, is_missing = backend.enter(backend.root(), "."), False
    try:
        for index, name in enumerate(names if is_directory else names[:-1]):
            if backend.find(at, name) is None:
                if event.offset:
                    raise FileError(
                        Errno.NOENT, "cannot continue {}: it does not exist", event.path
                    )
                if not is_missing:
                    backend.check_space(len(names) - index, len(event.data))
                backend.make_directory(at, name, now)
                is_missing = True
            parent, at = at, backend.enter(at, name)
            backend.leave(parent)
        if not is_directory and names:
            _place_entry(backend, at, names[-1], event, now)
    finally:
        backend.leave(at)


def _place_entry(
    backend: FileBackend[D, Any], at: D, name: str, event: FilePlaced, now: int
) -> None:
    node = backend.find(at, name)
    if node is not None and node.filetype is FileType.DIRECTORY:
        raise FileError(Errno.ISDIR, "{} is a directory", event.path)
    backend.check_space(int(node is None), len(event.data))
    if event.offset:
        file = backend.open_file(at, name)
    else:
        if node is not None:
            backend.unlink(at, name, now)
        if event.kind is FileType.SYMBOLIC_LINK:
            backend.make_symlink(at, name, _link_target(event), now)
            return
        file = backend.make_file(at, name, now)
    try:
        if file.size(-1) != event.offset:
            raise FileError(
                Errno.INVAL, "a part of {} does not follow the previous part", event.path
            )
        file.append(event.data)
    finally:
        file.close()


def _check_placement(names: list[str], event: FilePlaced) -> None:
    """Raise ``FileError`` for an invalid path or an unsupported kind of file."""
    if not {".", ".."}.isdisjoint(names):
        raise FileError(Errno.INVAL, "the path {} of a file contains . or ..", event.path)
    check_path("/".join(names) or ".")
    for name in names:
        check_name(name)
    if event.kind is FileType.SYMBOLIC_LINK:
        target = _link_target(event)
        check_path(target.lstrip("/") or target[:1].replace("/", "."))
    elif event.kind not in (FileType.REGULAR_FILE, FileType.DIRECTORY):
        raise FileError(Errno.INVAL, "{} is neither a file nor a directory nor a link", event.path)
    if event.offset and event.kind is not FileType.REGULAR_FILE:
        raise FileError(
            Errno.INVAL, "{} has a part at offset {}, but is not a file", event.path, event.offset
        )


def _link_target(event: FilePlaced) -> str:
    return decode_path(event.data)
