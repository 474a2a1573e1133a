"""Place of a session's journal: a path of the caller, or a temporary directory."""

import shutil
import tempfile
from pathlib import Path

from journal._arguments import check_path
from journal.engine.session.run_config import StrPath
from journal.errors import OptionError

_NAME = "session.journal"


class JournalPlace:
    """Path of a journal. Without a given path it is in a new temporary directory."""

    def __init__(self, path: StrPath | None) -> None:
        self._folder: Path | None = None
        if path is None:
            self._folder = make_folder()
            self.path = self._folder / _NAME
        else:
            self.path = check_path("path", path)

    @property
    def is_temporary(self) -> bool:
        """Return whether :meth:`remove` removes the journal."""
        return self._folder is not None

    def remove(self) -> None:
        """Remove the temporary directory, if there is one."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def make_folder() -> Path:
    """Create a temporary directory that only this user can read, and return its path."""
    try:
        return Path(tempfile.mkdtemp(prefix="journal-"))
    except OSError as error:
        raise OptionError(
            f"no temporary directory can be created ({error.strerror}): set TMPDIR, or a path"
        ) from error
