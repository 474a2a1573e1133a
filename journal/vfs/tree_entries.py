"""A tree of files in memory as plain values, by path."""

from typing import NamedTuple

from journal.events.paths import FileType
from journal.vfs.errors import FileError
from journal.vfs.nodes import DirectoryNode, FileNode, Node
from journal.wasi_abi import Errno


class TreeEntry(NamedTuple):
    """One entry of a file tree. Times are in nanoseconds since the epoch.

    ``content`` is the bytes of a file or the target of a link. Entries with one ``inode`` are hard
    links to one file.
    """

    kind: FileType
    inode: int
    links: int
    atime: int
    mtime: int
    ctime: int
    content: bytes


def list_tree(root: DirectoryNode, paths_size_max: int) -> dict[str, TreeEntry]:
    """Return all entries below ``root``, by their path. The path of the root is ``.``.

    Raises ``FileError`` if all paths together have more than ``paths_size_max`` characters, because
    they can grow with the square of the depth.
    """
    entries: dict[str, TreeEntry] = {}
    paths_size = 0
    pending: list[tuple[str, Node]] = [("", root)]
    while pending:
        path, node = pending.pop()
        paths_size += len(path)
        if paths_size > paths_size_max:
            raise FileError(
                Errno.NOMEM,
                "all paths would have {} bytes, but the limit is {}",
                paths_size,
                paths_size_max,
            )
        times = (node.atime, node.mtime, node.ctime)
        entries[path or "."] = TreeEntry(
            node.filetype, node.inode, node.links, *times, node.content()
        )
        if isinstance(node, DirectoryNode):
            prefix = f"{path}/" if path else ""
            children = sorted(node.entries.items(), reverse=True)
            pending += [(prefix + name, entry) for name, entry in children]
    return entries


def read_files(root: DirectoryNode, mount: str) -> dict[str, bytes]:
    """Return the bytes of each regular file below ``root``, by its path in the guest."""
    contents: dict[str, bytes] = {}
    pending: list[tuple[str, Node]] = [(mount.rstrip("/"), root)]
    while pending:
        path, node = pending.pop()
        if isinstance(node, DirectoryNode):
            children = sorted(node.entries.items(), reverse=True)
            pending += [(f"{path}/{name}", entry) for name, entry in children]
        elif isinstance(node, FileNode):
            contents[path] = node.content()
    return contents
