"""Checks that the descriptors of recorded effects are free when the effects are repeated."""

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import DESCRIPTORS_MAX


def check_free(context: CallContext, *fds: int) -> None:
    """Raise ``ValueError`` unless these are different numbers that are not in use."""
    for index, fd in enumerate(fds):
        if fd in context.descriptors.used or fd >= DESCRIPTORS_MAX or fd in fds[:index]:
            raise ValueError(f"descriptor {fd} is not free")


def reserve_descriptor(context: CallContext, fd: int) -> None:
    """Make ``fd`` the next descriptor number.

    If a compaction has dropped descriptors that were opened and closed, another number would be
    next. The snapshot lists the free numbers.
    """
    check_free(context, fd)
    if fd != context.descriptors.next_fd():
        context.descriptors.reserve(fd)
