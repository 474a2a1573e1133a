"""The refusal of a file operation: a WASI error number, and a reason for people."""

from journal.wasi_abi import Errno, WasiError

_QUOTED_SIZE_MAX = 60


class FileError(WasiError):
    """A refused operation on a file, a path or a descriptor.

    A running guest receives ``errno``; a replay reports ``reason``, one sentence without a full
    stop. The placeholders of ``template`` stand for ``values``, and texts among them are quoted.
    Without values, ``template`` is the reason.

    > Why a template? Guests cause many refusals whose reason nobody reads.
    """

    def __init__(self, errno: Errno, template: str, *values: str | int) -> None:
        self.errno = int(errno)  # The base class would only do the same, later.
        self._template = template
        self._values = values

    @property
    def reason(self) -> str:
        """Reason for the refusal."""
        values = [quote_path(value) if isinstance(value, str) else value for value in self._values]
        return self._template.format(*values)

    def __str__(self) -> str:
        return self.reason


def quote_path(path: str) -> str:
    """Return a name or a path for a message: quoted, on one line, and cut."""
    return repr(path if len(path) <= _QUOTED_SIZE_MAX else path[:_QUOTED_SIZE_MAX] + "…")
