"""Configuration of one session of a run, for a new run and for a resumed one."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from journal.engine.configuration import SnapshotOptions
from journal.engine.program.variant import Notify
from journal.engine.wasi.stdio.outbox import Durability
from journal.engine.wasi.stdio.stdin import FedSource
from journal.errors import OptionError

if TYPE_CHECKING:
    from journal.compaction import CompactionSchedule

Input = bytes | int | IO[Any] | FedSource | None
Output = int | IO[Any] | None
StrPath = str | os.PathLike[str]


def ignore_note(text: str) -> None:
    """Ignore a remark for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Options that :func:`record` and :func:`resume` share. The journal does not contain them.

    ``stdin`` is bytes, a file object, a descriptor or a :class:`FedSource`. With None,
    :meth:`Recorder.feed` supplies the input. ``stdout`` and ``stderr`` are file objects or
    descriptors. With None, the recorder captures the output in memory. The caller keeps
    descriptors open until the recorder is closed, and closes them.

    ``durability`` says when output and changes of host files may happen relative to their
    events. ``cache`` is the directory of compiled modules and memory images (default: one in the
    cache directory of the user). ``network`` allows sockets.

    ``snapshots`` says when snapshots are taken. ``compaction`` says when the journal is
    compacted; it cannot be combined with a page index. ``note`` receives remarks for the user,
    from the calling thread or threads of the recorder.
    """

    stdin: Input = None
    stdout: Output = None
    stderr: Output = None
    durability: Durability = Durability.OUTPUT
    cache: Path | None = None
    network: bool = False
    snapshots: SnapshotOptions = field(default_factory=SnapshotOptions)
    compaction: "CompactionSchedule | None" = None
    note: Notify = ignore_note

    def __post_init__(self) -> None:
        is_compacting = self.compaction is not None and self.compaction.is_active
        if self.snapshots.page_index and is_compacting:
            raise OptionError(
                "a page index and compaction cannot be combined: "
                "compaction may drop pages that the index refers to"
            )
