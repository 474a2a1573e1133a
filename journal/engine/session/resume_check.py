"""Check of a resume without the guest: whether a journal can be resumed here and now."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from journal.engine.session import preamble
from journal.engine.session.host_check import compare_host, read_times
from journal.engine.session.journal_trust import decide
from journal.engine.session.recorded_run import RecordedRun
from journal.engine.session.run_config import Input, RunConfig, StrPath
from journal.engine.session.secret_environment import SecretValue, check_secrets
from journal.engine.session.standard_streams import connect_streams
from journal.engine.trust.grants import Grants
from journal.errors import EngineError


@dataclass(frozen=True, slots=True)
class ResumeCheck:
    """Result of :func:`check_resume`.

    ``differences`` has one sentence for each difference between the host and the recording.
    ``obstacle`` is the reason why a resume would be refused even if it is not strict, or empty.
    ``has_ended`` says whether the program had ended, so that nothing is compared.
    """

    differences: tuple[str, ...] = ()
    obstacle: str = ""
    has_ended: bool = False

    @property
    def is_exact(self) -> bool:
        """Return whether a resume would continue, on a host that is as the recording left it."""
        return not self.differences and not self.obstacle


def check_resume(
    path: StrPath,
    *,
    module: bytes | StrPath | None = None,
    grants: Grants | None = None,
    secrets: Mapping[str, str | SecretValue] | None = None,
    stdin: Input = None,
    approvals: Path | None = None,
) -> ResumeCheck:
    """Compare the host with the recording as :func:`resume` does, without running the guest.

    The options are those of :func:`resume`. Files that the guest had open are opened and closed
    again. Nothing is written, and the journal may be one that another process writes. Raises
    ``OptionError`` for invalid options, and the errors of a reader for a journal that is damaged.
    """
    with RecordedRun(Path(path)) as recording:
        if recording.result is not None:
            return ResumeCheck(has_ended=True)
        try:
            preamble.check_engine(recording.identity, None)
            access = decide(recording, grants or Grants(), approvals, has_module=module is not None)
            preamble.find_module(recording.identity, module, access)
            preamble.set_secrets(recording.identity, check_secrets(secrets or {}))
            source = connect_streams(RunConfig(stdin=stdin), recording.histories).source
            times = read_times(recording)
            return ResumeCheck(compare_host(recording, source, access, times))
        except EngineError as error:
            return ResumeCheck(obstacle=str(error))
