"""Resume of the processes of a run besides the first one."""

from contextlib import ExitStack
from dataclasses import replace

from journal.engine.session.child_state import make_child_config, make_child_streams
from journal.engine.session.host_check import compare_host, read_times, report_differences
from journal.engine.session.process import Process
from journal.engine.session.process_tree import ProcessTree
from journal.engine.session.recorded_run import RecordedRun
from journal.engine.session.recorder import Recorder
from journal.engine.session.session_builder import Resumption, close_on_error
from journal.engine.session.tree_journals import RecordedMember, read_tree
from journal.engine.trust.access import HostAccess
from journal.engine.wasi.stdio.stdin import Interrupter
from journal.log.segment_files import remove_journal
from journal.log.writer import Writer
from journal.rewrite.progress import report_phase
from journal.snapshots.resume_flags import list_secret_names


def resume_others(tree: ProcessTree, first: Resumption) -> None:
    """Let ``tree`` have the other processes of a recorded run: those that run have recorders.

    ``first`` is the first process. Raises ``NotResumable`` if the journal of a process is missing.
    """
    with report_phase(first.config.progress, "reading the journals of other processes"):
        recorded = read_tree(tree.path)
    # This run has the lock of the first journal, so nobody else creates journals here.
    for unfinished in tree.directory.glob(".*.tmp"):
        remove_journal(unfinished)
    tree.load(recorded)
    for member in recorded.members.values():
        if member.result is None:
            tree.add_resumed(member.pid, *_resume(tree, first, member))


def _resume(
    tree: ProcessTree, first: Resumption, member: RecordedMember
) -> tuple[Recorder, Process]:
    """Return the recorder and the process of a member of the run, which does not run yet."""
    interrupter, writer = Interrupter(), Writer(member.path)
    config, streams = make_child_config(first.config), make_child_streams()
    with close_on_error(writer, interrupter), ExitStack() as stack:
        recording = stack.enter_context(
            RecordedRun(writer.path, writer.next_seq, first.options.policy)
        )
        access = _limit_access(first, recording)
        times = read_times(recording)
        differences = compare_host(recording, streams.source, access, times)
        report_differences(differences, is_strict=first.options.strict)
        options = replace(
            first.options,
            module=None,
            secrets=_find_secrets(first, recording),
            on_input_wait=None,
            reseed=False,
            access=access,
        )
        forked_as = (member.pid, member.parent) if member.is_fork else None
        resumption = Resumption(
            recording, {}, interrupter, config, options, access, times, tree, forked_as
        )
        process = resumption.make_process(writer, streams)
        recorder = Recorder(
            writer, streams, interrupter, config, process=process, reader=recording.reader
        )
        stack.pop_all()  # The recorder closes the reader.
        return recorder, process


def _limit_access(first: Resumption, recording: RecordedRun) -> HostAccess:
    """Return the access of a process: at most that of the first one, for the same mounts."""
    names = {mount.guest for mount in recording.identity.mounts}
    granted = first.access.directories
    return replace(
        first.access,
        directories={guest: mount for guest, mount in granted.items() if guest in names},
        has_module_file=False,
    )


def _find_secrets(first: Resumption, recording: RecordedRun) -> dict[str, str]:
    """Return the values of the secret variables of a process, which are those of the first one."""
    names = set(list_secret_names(recording.identity.start))
    return {name: value for name, value in first.options.secrets.items() if name in names}
