"""``journaltool info``: print a summary of a journal without a replay."""

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.options import common, redaction
from journaltool.output import lenient_reader, progress, terminal
from journaltool.output.phrases import format_count, format_location, format_time

if TYPE_CHECKING:
    from journal.events.process import Listener, Mount, ProcessStart
    from journal.export.redaction import Redaction
    from journal.log import Declarations, Summary
    from journaltool.output.journal_facts import JournalFacts

HELP = """Print a summary of a journal and of its program.

The summary comes from the headers of the journal. For the journal of a process it also has the
program, its arguments and mounts, the end of the run or the process that writes it, and whether the
run can be resumed here. For that, a journal of up to 32 MiB is read as a resume would read it. Of a
larger one only the headers are read; journaltool check-resume reads it.

Values of environment variables are hidden, because they are often secrets. The values of variables
that run got with --secret-env are not in the journal. --redact environment replaces arguments and
shown values by their sizes and salted hashes.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("info")}

\b
Examples:
  journaltool info hello.journal
  journaltool info --env work.journal
  journaltool info --json work.journal
"""


def info(
    journal: common.JournalArgument,
    env: Annotated[
        bool, typer.Option("--env", help="Show the values of environment variables.")
    ] = False,
    redact: redaction.RedactOption = None,
    as_json: common.JsonOption = False,
) -> None:
    """Print a summary (the help text is HELP)."""
    with error_report.reporting_errors(exit_codes.ExitCode.ERROR, about=journal):
        from journal import Reader
        from journaltool.output import journal_facts

        with progress.show_phase("reading the journal", quiet=False), Reader(journal) as reader:
            facts, declared = journal_facts.collect_facts(reader), reader.declarations()
        obstacle = journal_facts.resume_obstacle(
            journal, facts, common.approvals_directory(), common.module_cache()
        )
        values = to_json(facts, obstacle, env, redaction.parse_redaction(redact))
        values = {
            "journal": str(journal),
            **values,
            **_declared_to_json(declared),
            "tail_file": lenient_reader.last_segment_name(journal),
        }
        if as_json:
            typer.echo(json.dumps(values, indent=2))
        else:
            terminal.print_table(to_table(values, facts.summary))


def to_json(
    facts: "JournalFacts", obstacle: str, env: bool, hidden: "Redaction | None" = None
) -> dict[str, Any]:
    """Return the facts as JSON values, with times in ISO 8601."""
    summary = facts.summary
    values: dict[str, Any] = {"id": summary.journal_id.hex()}
    if facts.start is not None:
        values |= _start_to_json(facts.start, env)
        if hidden is not None:
            values |= _redact_start(facts.start, env, hidden)
        values["mounts"] = [_mount_to_json(mount) for mount in facts.mounts]
        values["listeners"] = [_listener_to_json(listener) for listener in facts.listeners]
    if facts.parent is not None:
        values["parent"] = {"id": facts.parent.journal.hex(), "seq": facts.parent.seq}
        values |= {"files": facts.files, "shared_files": facts.shared_files}
    if facts.child is not None:
        names = ("pid", "parent", "image")
        values["started_by"] = {"id": facts.child.journal.hex()} | {
            name: getattr(facts.child, name) for name in names
        }
    values |= {
        "processes": [
            {"pid": one.pid, "image": one.image, "kind": one.kind.name.lower()}
            for one in facts.started
        ],
        "created": format_time(summary.created),
        "last_event": format_time(summary.last_time) if summary.events else None,
        "sessions": facts.sessions,
        "connections": facts.connections,
        "events": summary.events,
        "blocks": summary.blocks,
        "segments": summary.segments,
        "format": ".".join(map(str, summary.version)),
        "size": summary.size,
        "tail": summary.tail,
        "torn_size": summary.torn_size,
        "durable_upto": summary.durable_upto,
        "superseded_size": summary.superseded_size,
        "debris": [{"offset": offset, "size": size} for offset, size in summary.debris],
        "damage": [_damage_to_json(one) for one in summary.damage],
        "sealed": facts.sealed,
        **_ending_to_json(facts),
        "running": facts.writer is not None,
        "process": facts.writer or None,
        "resumable": not obstacle,
        "checked": facts.is_checked,
        "obstacle": obstacle,
    }
    return values


def _start_to_json(start: "ProcessStart", env: bool) -> dict[str, Any]:
    from journal.snapshots.resume_flags import SECRET_ENVIRONMENT, list_secret_names

    variables = [os.fsdecode(variable) for variable in start.environment]
    return {
        "module": start.module_path,
        "module_size": start.module_size,
        "module_sha256": start.module_hash.hex(),
        "embedded": start.embedded,
        "arguments": [os.fsdecode(argument) for argument in start.arguments],
        "environment": variables if env else [name.partition("=")[0] for name in variables],
        "secret_environment": list_secret_names(start),
        "level": start.level.name.lower(),
        "engine": f"{start.engine} {start.engine_version}",
        "journal_version": start.journal_version,
        "host_revision": start.host_revision,
        "platform": start.platform,
        "configuration": {
            name: text for name, text in start.configuration if name != SECRET_ENVIRONMENT
        },
        "started": format_time(start.realtime // 1000),
    }


def _redact_start(start: "ProcessStart", env: bool, hidden: "Redaction") -> dict[str, Any]:
    """Return arguments and environment as texts, with redacted contents."""
    from journal.export import Secret
    from journaltool.output.redacted_format import redacted_to_text

    if Secret.ENVIRONMENT not in hidden.secrets:
        return {}
    fields = hidden.redact_fields(start)
    shown = {"arguments": [redacted_to_text(argument) for argument in fields["arguments"]]}
    if env:
        shown["environment"] = [redacted_to_text(variable) for variable in fields["environment"]]
    return shown


def _declared_to_json(declared: "Declarations") -> dict[str, Any]:
    found = [declared.first[tag] for tag in sorted(declared.classes)]
    return {
        "kinds": [
            {"tag": one.number, "name": one.name, "fields": [list(field) for field in one.fields]}
            for one in found
        ],
        "void_declarations": declared.void,
    }


def _mount_to_json(mount: "Mount") -> dict[str, Any]:
    kind = mount.kind.name.lower().replace("_", "-")
    return {"fd": mount.fd, "guest": mount.guest, "kind": kind, "host": mount.host}


def _listener_to_json(listener: "Listener") -> dict[str, Any]:
    host = str(listener.addr.address)
    host = f"[{host}]" if ":" in host else host
    return {"fd": listener.fd, "address": f"{host}:{listener.addr.port}"}


def _damage_to_json(one: Any) -> dict[str, Any]:
    names = ("offset", "size", "first_seq", "last_seq", "acknowledged", "reason")
    return {name: getattr(one, name) for name in names}


def _ending_to_json(facts: "JournalFacts") -> dict[str, Any]:
    ending = facts.ending
    if ending is None:
        return {"ended": False, "exit_code": None, "trap": None}
    from journal.events.core import ProcessExit
    from journal.events.processes import ProcessReplaced

    if isinstance(ending, ProcessReplaced):
        return {"ended": False, "exit_code": None, "trap": None, "replaced": True}
    code = trap = None
    if isinstance(ending, ProcessExit):
        code = ending.exit_code
    else:
        trap = ending.kind
    return {"ended": True, "exit_code": code, "trap": trap}


def _describe_kind(one: dict[str, Any]) -> str:
    fields = ", ".join(f"{name}: {type_text}" for name, type_text in one["fields"])
    return f"{one['name']}({fields}), tag {one['tag']}"


def to_table(values: dict[str, Any], summary: "Summary") -> list[tuple[str, str]]:
    """Return the rows of the table; checks without a finding have no row."""
    rows = [("journal", terminal.quote(values["journal"])), ("id", values["id"])]
    if "module" in values:
        rows += _start_to_table(values)
    else:
        rows.append(("module", "none: the journal does not record a process"))
    if "parent" in values:
        rows.append(
            ("parent", f"{values['parent']['id']}, after its event {values['parent']['seq']}")
        )
        rows.append(("shared", _describe_shared(values)))
    rows += _processes_to_table(values)
    last = f", the last at {values['last_event']}" if summary.events else ""
    if "module" in values:
        rows.append(("sessions", str(values["sessions"])))
    if values["connections"]:
        rows.append(("connections", f"{values['connections']:,}: stats --by peer lists them"))
    rows += [
        ("events", f"{summary.events}{last}"),
        (
            "size",
            f"{format_count(summary.size, 'byte')} in {format_count(summary.blocks, 'block')} "
            f"and {format_count(summary.segments, 'segment')}, format {values['format']}",
        ),
        *(("kind", _describe_kind(one)) for one in values["kinds"]),
        *(("void", reason) for reason in values["void_declarations"]),
        ("tail", format_location(summary.tail, values["tail_file"])),
    ]
    if not values["tail_file"]:
        rows.append(("durable", f"at least up to offset {summary.durable_upto}"))
    if note := lenient_reader.describe_torn_tail(summary, values["tail_file"]):
        rows.append(("torn", note))
    if summary.superseded_size:
        ignored = format_count(summary.superseded_size, "byte")
        rows.append(("superseded", f"{ignored} of files that a later file continues before them"))
    rows += [
        ("debris", f"{format_count(size, 'byte')} at offset {offset}, left by a crash")
        for offset, size in summary.debris
    ]
    rows += [("damage", str(one.error())) for one in summary.damage]
    if "module" in values:
        rows.append(("ended", _describe_ending(values)))
    elif values["running"]:
        rows.append(("writer", _describe_writer(values)))
    rows.append(("resumable", _describe_resumable(values)))
    return rows


def _processes_to_table(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of the process that started this one, and of those that it started."""
    rows = []
    start = values.get("started_by")
    if start is not None:
        program = f", its program {start['image'] + 1}" if start["image"] else ""
        source = f"by process {start['parent']}" if start["parent"] else "as the first one"
        rows.append(("process", f"{start['pid']} of a run, started {source}{program}"))
    numbers = [str(one["pid"]) for one in values["processes"] if one["kind"] in ("child", "fork")]
    if numbers:
        shown = ", ".join(numbers[:_PROCESSES_SHOWN_MAX])
        more = "" if len(numbers) <= _PROCESSES_SHOWN_MAX else ", …"
        noun = "process" if len(numbers) == 1 else f"{len(numbers)} processes:"
        rows.append(("children", f"{noun} {shown}{more}"))
    return rows


_PROCESSES_SHOWN_MAX = 10


def _start_to_table(values: dict[str, Any]) -> list[tuple[str, str]]:
    where = "in the journal" if values["embedded"] else "not in the journal"
    arguments = " ".join(map(terminal.quote, values["arguments"]))
    rows = [
        ("module", terminal.quote(values["module"]) if values["module"] else "passed as bytes"),
        ("", f"{format_count(values['module_size'], 'byte')}, {where}"),
        ("sha256", values["module_sha256"]),
        ("arguments", arguments),
        ("environment", _describe_environment(values)),
    ]
    for mount in values["mounts"]:
        source = {
            "memory": "in memory",
            "host": terminal.quote(mount["host"]),
            "host-read-only": f"{terminal.quote(mount['host'])}, read only",
        }[mount["kind"]]
        rows.append(("mount", f"{terminal.quote(mount['guest'])} is {source}"))
    rows += [("listener", listener["address"]) for listener in values["listeners"]]
    configuration = " ".join(
        f"{terminal.quote(name)}={terminal.quote(value)}"
        for name, value in values["configuration"].items()
    )
    rows += [
        ("level", values["level"]),
        ("engine", f"{values['engine']}, journal {values['journal_version']}"),
        ("platform", values["platform"]),
        ("configuration", configuration),
        ("started", values["started"]),
    ]
    return rows


def _describe_environment(values: dict[str, Any]) -> str:
    secret = values["secret_environment"]
    shown = [
        f"{terminal.quote(entry)} (secret)" if entry in secret else terminal.quote(entry)
        for entry in values["environment"]
    ]
    return " ".join(shown) or "none"


def _describe_resumable(values: dict[str, Any]) -> str:
    if not values["resumable"]:
        return f"no: {values['obstacle']}"
    return "yes" if values["checked"] else "yes, by its headers: check-resume reads all of it"


def _describe_shared(values: dict[str, Any]) -> str:
    verb = "is" if values["shared_files"] == 1 else "are"
    return (
        f"{values['shared_files']} of {format_count(values['files'], 'file')} {verb} shared with "
        "other journals"
    )


def _describe_writer(values: dict[str, Any]) -> str:
    return f"process {values['process']}" if values["process"] else "another process"


def _describe_ending(values: dict[str, Any]) -> str:
    if not values["ended"]:
        if values["running"]:
            return f"no: running ({_describe_writer(values)})"
        if values.get("replaced"):
            return "no: another program replaced this one, and has another journal"
        return "no: the program was stopped or killed"
    if values["trap"] is not None:
        return f"trapped: {values['trap']}"
    return f"with exit code {values['exit_code']}"
