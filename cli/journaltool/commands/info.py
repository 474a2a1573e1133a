"""``journaltool info``: what a journal is, without playing it."""

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import exit_codes as exits
from journaltool.options import common as options
from journaltool.output import lenient_reader as reading
from journaltool.output import text as render

if TYPE_CHECKING:
    from journal import Summary
    from journal.events.process import Mount, ProcessStart
    from journaltool.output.journal_facts import Facts

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
    journal: options.JournalArgument,
    env: Annotated[bool, typer.Option("--env", help="Show the values of variables too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Tell about a journal (the help text is HELP)."""
    with exits.told(exits.Code.ERROR, about=journal):
        from journal import Reader
        from journaltool.output import journal_facts as facts

        with Reader(journal) as reader:
            found = facts.gather(reader)
        known = _known(found, facts.obstacle(found), env)
        known = {"journal": str(journal), **known, "tail_file": reading.last_file(journal)}
        if as_json:
            typer.echo(json.dumps(known, indent=2))
        else:
            render.table(_rows(known, found.summary))


def _known(found: "Facts", obstacle: str, env: bool) -> dict[str, Any]:
    """Everything, in what JSON has; times are of ISO 8601."""
    summary = found.summary
    known: dict[str, Any] = {"id": summary.journal_id.hex()}
    if found.start is not None:
        known |= _identity(found.start, env)
        known["mounts"] = [_mount(mount) for mount in found.mounts]
    if found.parent is not None:
        known["parent"] = {"id": found.parent.journal.hex(), "seq": found.parent.seq}
    known |= {
        "created": reading.moment(summary.created),
        "last_event": reading.moment(summary.last_time) if summary.events else None,
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
        "damage": [_damage(one) for one in summary.damage],
        "sealed": found.sealed,
        **_ending(found),
        "resumable": not obstacle,
        "obstacle": obstacle,
    }
    return known


def _identity(start: "ProcessStart", env: bool) -> dict[str, Any]:
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
        "started": reading.moment(start.realtime // 1000),
    }


def _mount(mount: "Mount") -> dict[str, Any]:
    kind = mount.kind.name.lower().replace("_", "-")
    return {"fd": mount.fd, "guest": mount.guest, "kind": kind, "host": mount.host}


def _damage(one: Any) -> dict[str, Any]:
    names = ("offset", "size", "first_seq", "last_seq", "acknowledged", "reason")
    return {name: getattr(one, name) for name in names}


def _ending(found: "Facts") -> dict[str, Any]:
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


def _rows(known: dict[str, Any], summary: "Summary") -> list[tuple[str, str]]:
    """The same to read: what is as it should be is not mentioned."""
    rows = [("journal", render.quoted(known["journal"])), ("id", known["id"])]
    if "module" in known:
        rows += _identity_rows(known)
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
            f"{reading.count(summary.size, 'byte')} in {reading.count(summary.blocks, 'block')} "
            f"and {reading.count(summary.segments, 'segment')}, format {known['format']}",
        ),
        ("tail", reading.place(summary.tail, known["tail_file"])),
    ]
    if not known["tail_file"]:
        rows.append(("durable", f"at least up to offset {summary.durable_upto}"))
    if note := reading.torn(summary, known["tail_file"]):
        rows.append(("torn", note))
    rows += [
        ("debris", f"{reading.count(size, 'byte')} at offset {offset}, of a crash")
        for offset, size in summary.debris
    ]
    rows += [("damage", str(one.error())) for one in summary.damage]
    if "module" in known:
        rows.append(("ended", _ended(known)))
    rows.append(("resumable", "yes" if known["resumable"] else f"no: {known['obstacle']}"))
    return rows


def _identity_rows(known: dict[str, Any]) -> list[tuple[str, str]]:
    where = "in the journal" if known["embedded"] else "not in the journal"
    arguments = " ".join(map(render.quoted, known["arguments"]))
    rows = [
        ("module", render.quoted(known["module"]) if known["module"] else "given as bytes"),
        ("", f"{reading.count(known['module_size'], 'byte')}, {where}"),
        ("sha256", known["module_sha256"]),
        ("arguments", arguments),
        ("environment", " ".join(map(render.quoted, known["environment"])) or "none"),
    ]
    for mount in known["mounts"]:
        source = {
            "memory": "in memory",
            "host": render.quoted(mount["host"]),
            "host-read-only": f"{render.quoted(mount['host'])}, read only",
        }[mount["kind"]]
        rows.append(("mount", f"{render.quoted(mount['guest'])} is {source}"))
    configuration = " ".join(
        f"{render.quoted(name)}={render.quoted(value)}"
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


def _ended(known: dict[str, Any]) -> str:
    if not known["ended"]:
        return "no: it was stopped, or killed, or it still runs"
    if known["trap"] is not None:
        return f"trapped: {known['trap']}"
    return f"with exit code {known['exit_code']}"
