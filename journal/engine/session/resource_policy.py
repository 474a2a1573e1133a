"""Resource policy: the most that a resumed or replayed journal may use of this machine."""

import os
from dataclasses import dataclass

from journal._arguments import check_int, check_optional, check_type
from journal.engine.configuration import MEMORIES_MAX, MEMORY_SIZE_MAX, PAGE_SIZE, Configuration
from journal.engine.program.asyncify_worker import STACK_MEMORY_PAGES
from journal.engine.program.module import MODULE_SIZE_MAX, read_memory_limits
from journal.engine.program.variant import ModuleVariant
from journal.engine.wasi.descriptors import DESCRIPTORS_MAX
from journal.engine.wasi.filesystem.mounts import MOUNTS_MAX
from journal.errors import ResourceRefused
from journal.log.reader import Reader

StrPath = str | os.PathLike[str]

FILES_SIZE_MAX = Configuration().files_size_max
"""Limit of the files in memory of a journal that asks for more, unless the user approved it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePolicy:
    """Limits of the user for a journal that is resumed or replayed. Sizes are in bytes.

    A journal that may need more is refused with ``ResourceRefused`` before its guest runs. The
    guest itself does not notice the policy, because its limits are those of its recording.

    ``memory_size_max`` bounds all linear memories of the guest together, and ``files_size_max`` the
    files of each in-memory directory (default: 1 GiB, or what this user recorded or approved).
    ``module_size_max`` bounds the module as it is run, and as it is stored. ``journal_size_max``
    bounds the journal, by default not at all. ``mounts_max`` is the largest number of directories
    of the guest, and ``open_files_max`` that of the host files that it had open.
    """

    memory_size_max: int = MEMORIES_MAX * MEMORY_SIZE_MAX
    files_size_max: int | None = None
    module_size_max: int = MODULE_SIZE_MAX
    journal_size_max: int | None = None
    mounts_max: int = MOUNTS_MAX
    open_files_max: int = DESCRIPTORS_MAX

    def __post_init__(self) -> None:
        for name in ("memory_size_max", "module_size_max", "mounts_max", "open_files_max"):
            check_int(name, getattr(self, name))
        for name in ("files_size_max", "journal_size_max"):
            check_optional(name, getattr(self, name), check_int)


DEFAULT_POLICY = ResourcePolicy()


def check_policy(policy: object) -> ResourcePolicy:
    """Return the policy of a call, by default the default one. Raises ``OptionError``."""
    return DEFAULT_POLICY if policy is None else check_type("policy", policy, ResourcePolicy)


def check_journal(path: StrPath, policy: ResourcePolicy) -> None:
    """Raise ``ResourceRefused`` if a journal is larger than the policy, without reading it.

    A writer must not have opened the journal, because it allocates a reserve at its end.
    """
    if policy.journal_size_max is not None:
        with Reader(path) as reader:
            check_limit("bytes of journal", reader.size, policy.journal_size_max, "--max-journal")


def check_memory(
    variant: ModuleVariant, configuration: Configuration, policy: ResourcePolicy
) -> None:
    """Raise ``ResourceRefused`` if the memories of a module may exceed the policy together.

    The memory that holds the stack of the guest for snapshots is not counted.
    """
    if policy.memory_size_max >= MEMORIES_MAX * configuration.memory_size_max:
        return
    each_max = configuration.memory_size_max
    need = sum(
        each_max if pages is None else min(each_max, pages * PAGE_SIZE)
        for pages in read_memory_limits(variant.module)
    )
    if variant.has_stacks:
        need -= STACK_MEMORY_PAGES * PAGE_SIZE
    check_limit("bytes of memory", need, policy.memory_size_max, "--max-memory")


def check_files(
    configuration: Configuration, mounts: int, approved_size: int, policy: ResourcePolicy
) -> None:
    """Raise ``ResourceRefused`` if the files in ``mounts`` memory directories may be too large.

    ``approved_size`` is the limit that the user approved for the journal, if it is above the
    default.
    """
    limit = policy.files_size_max
    if limit is None:
        limit = max(FILES_SIZE_MAX, approved_size)
    need = configuration.files_size_max if mounts else 0
    check_limit("bytes of files in memory", need, limit, "--max-files")


def check_limit(subject: str, need: int, limit: int | None, option: str) -> None:
    """Raise ``ResourceRefused`` if a journal needs more than a limit. ``option`` raises it."""
    if limit is not None and need > limit:
        raise ResourceRefused(
            f"the journal may need {need} {subject}, more than the limit of {limit}: "
            f"raise it with {option} {need}"
        )
