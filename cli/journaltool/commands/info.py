"""``journaltool info``: what a journal is, without playing it."""

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes
from journaltool.options import common
from journaltool.output import lenient_reader, terminal
from journaltool.output.phrases import format_count, format_location, format_time

if TYPE_CHECKING:
    from journal import Summary
    from journal.events.process import Mount, ProcessStart
    from journaltool.output.journal_facts import JournalFacts

HELP = """Tell what a journal holds.

That is what its headers say, and of the journal of a process what ran, on what, how far it came,
and whether it can be resumed here.

Values of environment variables are not shown, because they are often secrets.
"""

EPILOG = """\b
Exit codes:
  0  told        1  the journal cannot be read, or is none        2  wrong usage

\b
Examples:
  journaltool info hello.journal
  journaltool info --env work.journal
  journaltool info --json work.journal
"""


def info(
    journal: common.JournalArgument,
    env: Annotated[bool, typer.Option("--env", help="Show the values of variables too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Tell about a journal (the help text is HELP)."""
    with exit_codes.reporting_errors(exit_codes.ExitCode.ERROR, about=journal):
        from journal import Reader
        from journaltool.output import journal_facts

        with Reader(journal) as reader:
            found = journal_facts.collect_facts(reader)
        known = to_json(found, journal_facts.resume_obstacle(found), env)
        known = {
            "journal": str(journal),
            **known,
            "tail_file": lenient_reader.last_segment_name(journal),
        }
        if as_json:
            typer.echo(json.dumps(known, indent=2))
        else:
            terminal.print_table(to_table(known, found.summary))


def to_json(found: "JournalFacts", obstacle: str, env: bool) -> dict[str, Any]:
    """Everything, in what JSON has; times are of ISO 8601."""
    summary = found.summary
    known: dict[str, Any] = {"id": summary.journal_id.hex()}
    if found.start is not None:
        known |= _start_to_json(found.start, env)
        known["mounts"] = [_mount_to_json(mount) for mount in found.mounts]
    if found.parent is not None:
        known["parent"] = {"id": found.parent.journal.hex(), "seq": found.parent.seq}
    known |= {
        "created": format_time(summary.created),
        "last_event": format_time(summary.last_time) if summary.events else None,
        "sessions": found.sessions,
        "events": summary.events,
        "blocks": summary.blocks,
        "segments": summary.segments,
        "format": ".".join(map(str, summary.version)),
        "size": summary.size,
        "tail": summary.tail,
        "torn_size": summary.torn_size,
        "durable_upto": summary.durable_upto,
        "debris": [{"offset": offset, "size": size} for offset, size in summary.debris],
        "damage": [_damage_to_json(one) for one in summary.damage],
        "sealed": found.sealed,
        **_ending_to_json(found),
        "resumable": not obstacle,
        "obstacle": obstacle,
    }
    return known


def _start_to_json(start: "ProcessStart", env: bool) -> dict[str, Any]:
    variables = [os.fsdecode(variable) for variable in start.environment]
    return {
        "module": start.module_path,
        "module_size": start.module_size,
        "module_sha256": start.module_hash.hex(),
        "embedded": start.embedded,
        "arguments": [os.fsdecode(argument) for argument in start.arguments],
        "environment": variables if env else [name.partition("=")[0] for name in variables],
        "level": start.level.name.lower(),
        "engine": f"{start.engine} {start.engine_version}",
        "journal_version": start.journal_version,
        "host_revision": start.host_revision,
        "platform": start.platform,
        "configuration": dict(start.configuration),
        "started": format_time(start.realtime // 1000),
    }


def _mount_to_json(mount: "Mount") -> dict[str, Any]:
    kind = mount.kind.name.lower().replace("_", "-")
    return {"fd": mount.fd, "guest": mount.guest, "kind": kind, "host": mount.host}


def _damage_to_json(one: Any) -> dict[str, Any]:
    names = ("offset", "size", "first_seq", "last_seq", "acknowledged", "reason")
    return {name: getattr(one, name) for name in names}


def _ending_to_json(found: "JournalFacts") -> dict[str, Any]:
    ending = found.ending
    if ending is None:
        return {"ended": False, "exit_code": None, "trap": None}
    from journal.events.core import ProcessExit

    code = trap = None
    if isinstance(ending, ProcessExit):
        code = ending.exit_code
    else:
        trap = ending.kind
    return {"ended": True, "exit_code": code, "trap": trap}


def to_table(known: dict[str, Any], summary: "Summary") -> list[tuple[str, str]]:
    """The same to read: what is as it should be is not mentioned."""
    rows = [("journal", terminal.quote(known["journal"])), ("id", known["id"])]
    if "module" in known:
        rows += _start_to_table(known)
    else:
        rows.append(("module", "not the journal of a process"))
    if "parent" in known:
        rows.append(("parent", f"{known['parent']['id']}, from behind {known['parent']['seq']}"))
    last = f", the last at {known['last_event']}" if summary.events else ""
    if "module" in known:
        rows.append(("sessions", str(known["sessions"])))
    rows += [
        ("events", f"{summary.events}{last}"),
        (
            "size",
            f"{format_count(summary.size, 'byte')} in {format_count(summary.blocks, 'block')} "
            f"and {format_count(summary.segments, 'segment')}, format {known['format']}",
        ),
        ("tail", format_location(summary.tail, known["tail_file"])),
    ]
    if not known["tail_file"]:
        rows.append(("durable", f"at least up to offset {summary.durable_upto}"))
    if note := lenient_reader.describe_torn_tail(summary, known["tail_file"]):
        rows.append(("torn", note))
    rows += [
        ("debris", f"{format_count(size, 'byte')} at offset {offset}, of a crash")
        for offset, size in summary.debris
    ]
    rows += [("damage", str(one.error())) for one in summary.damage]
    if "module" in known:
        rows.append(("ended", _describe_ending(known)))
    rows.append(("resumable", "yes" if known["resumable"] else f"no: {known['obstacle']}"))
    return rows


def _start_to_table(known: dict[str, Any]) -> list[tuple[str, str]]:
    where = "in the journal" if known["embedded"] else "not in the journal"
    arguments = " ".join(map(terminal.quote, known["arguments"]))
    rows = [
        ("module", terminal.quote(known["module"]) if known["module"] else "given as bytes"),
        ("", f"{format_count(known['module_size'], 'byte')}, {where}"),
        ("sha256", known["module_sha256"]),
        ("arguments", arguments),
        ("environment", " ".join(map(terminal.quote, known["environment"])) or "none"),
    ]
    for mount in known["mounts"]:
        source = {
            "memory": "in memory",
            "host": terminal.quote(mount["host"]),
            "host-read-only": f"{terminal.quote(mount['host'])}, read only",
        }[mount["kind"]]
        rows.append(("mount", f"{terminal.quote(mount['guest'])} is {source}"))
    configuration = " ".join(
        f"{terminal.quote(name)}={terminal.quote(value)}"
        for name, value in known["configuration"].items()
    )
    rows += [
        ("level", known["level"]),
        ("engine", f"{known['engine']}, journal {known['journal_version']}"),
        ("platform", known["platform"]),
        ("configuration", configuration),
        ("started", known["started"]),
    ]
    return rows


def _describe_ending(known: dict[str, Any]) -> str:
    if not known["ended"]:
        return "no: it was stopped, or killed, or it still runs"
    if known["trap"] is not None:
        return f"trapped: {known['trap']}"
    return f"with exit code {known['exit_code']}"
