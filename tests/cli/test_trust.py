"""The command trust, and the refusal of journals that ask for more than the user has granted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import journal
from tests.support.command_line import Done, build_environment, parse_last_json, run_tool
from tests.support.programs import guest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a journal that a stranger recorded with ``--dir``, and that directory."""
    (tmp_path / "my room").mkdir()
    stranger = {"XDG_STATE_HOME": str(tmp_path / "stranger")}
    arguments: list[str | Path] = [
        "--no-root",
        "--dir",
        f"{tmp_path}/my room::/",
        guest("diary"),
        "1",
    ]
    run_tool("run", "-q", "-j", "whole", *arguments, at=tmp_path, env=stranger)
    (tmp_path / "my room" / "diary").unlink()
    with journal.Reader(tmp_path / "whole") as reader:
        last = max(frame.seq for frame in reader.frames() if frame.tag == 131)  # SessionStart
    journal.cut(tmp_path / "whole", tmp_path / "mailed", at=last)
    return tmp_path


@pytest.fixture
def options(folder: Path) -> str:
    """The option that grants what the journal asks for."""
    return f"--dir '{folder}/my room::/'"


def resume(folder: Path, *arguments: str, **variables: str) -> Done:
    return run_tool("resume", "-q", *arguments, "mailed", at=folder, env=variables)


def test_a_refusal_lists_what_the_journal_asks_for_and_how_to_grant_it(
    folder: Path, options: str
) -> None:
    done = resume(folder, "--json")
    assert done.returncode == 125
    lines = done.stderr.decode().splitlines()
    assert lines[:-1] == [
        "journaltool: error: the journal asks for access that nobody granted",
        f"  the directory '{folder}/my room' as '/', writable",
        "if you trust the journal, grant the access with these options:",
        f"  {options}",
        "or approve the journal for this and later times: journaltool trust mailed",
    ]
    found = parse_last_json(done)
    assert (found["error"], found["options"]) == ("GrantsMissing", [options])
    assert list((folder / "my room").iterdir()) == []


def test_the_options_of_a_refusal_grant_the_access(folder: Path) -> None:
    assert resume(folder, "--dir", f"{folder}/my room::/").returncode == 0
    assert list((folder / "my room").iterdir()) != []


def test_an_approved_journal_is_resumed_without_options(folder: Path) -> None:
    shown = run_tool("trust", "--show", "mailed", at=folder)
    assert shown.stdout.decode() == (
        f"asks for: the directory '{folder}/my room' as '/', writable\n"
    )
    assert resume(folder).returncode == 125
    assert run_tool("check-resume", "mailed", at=folder).returncode == 1
    assert b"nobody granted" in run_tool("info", "mailed", at=folder).stdout
    done = run_tool("trust", "mailed", at=folder)
    assert done.stdout.startswith(b"approved: the directory '")
    assert run_tool("check-resume", "mailed", at=folder).returncode == 0
    assert b"resumable      yes" in run_tool("info", "mailed", at=folder).stdout
    assert resume(folder).returncode == 0


def test_approvals_are_listed_and_revoked(folder: Path, options: str) -> None:
    state = {"XDG_STATE_HOME": str(folder / "state")}

    def call(*arguments: str) -> str:
        return run_tool("trust", *arguments, at=folder, env=state).stdout.decode()

    assert (call("--list"), call("--list", "--json")) == ("", "[]\n")
    made = json.loads(call("--json", "mailed"))
    assert (made["options"], made["approved"]) == ([options], True)
    (listed,) = json.loads(call("--list", "--json"))
    assert (listed["id"], listed["directories"]) == (made["id"], made["directories"])
    assert call("--list").startswith(made["id"])
    assert call("--revoke", "mailed") == "1 revoked\n"
    call("mailed")
    (folder / "mailed").rename(folder / "away")
    assert json.loads(call("--revoke", "--json", made["id"]))["revoked"] == 1
    assert call("--list") == ""


@pytest.mark.parametrize(
    "arguments", [(), ("--list", "j"), ("--show", "--revoke", "j"), ("--revoke",)]
)
def test_trust_takes_one_journal_or_lists(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert run_tool("trust", *arguments, at=tmp_path).returncode == 2


def test_errors_of_trust_are_sentences(folder: Path) -> None:
    done = run_tool("trust", "missing", at=folder)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    (folder / "file").write_bytes(b"")
    done = run_tool("trust", "mailed", at=folder, env={"XDG_STATE_HOME": f"{folder}/file"})
    assert done.returncode == 1
    assert b"the approval cannot be stored" in done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables of a user without XDG_STATE_HOME."""
    assert build_environment()["XDG_STATE_HOME"], "tests have one"
    yield {"XDG_STATE_HOME": "", "HOME": str(tmp_path / "home")}
    assert (tmp_path / "home/.local/state/wasm-journal/approvals/key").exists()


def test_approvals_are_in_the_home_of_the_user(folder: Path, home: dict[str, str]) -> None:
    assert run_tool("trust", "mailed", at=folder, env=home).returncode == 0
    assert resume(folder, **home).returncode == 0


def test_dir_of_a_resume_needs_a_mount(folder: Path) -> None:
    assert resume(folder, "--dir", "/tmp").returncode == 2
    assert resume(folder, "--dir", "/tmp::").returncode == 2
    done = resume(folder, "--dir", "/tmp::/other")
    assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
    assert b"no mount /other of a host directory: it has /" in done.stderr


def test_a_journal_that_may_use_more_than_the_user_allows_is_refused(tmp_path: Path) -> None:
    done = run_tool("run", "-q", "-j", "j", "--max-files", "1024GiB", guest("cat"), at=tmp_path)
    assert done.returncode == 0
    with journal.Reader(tmp_path / "j") as reader:
        last = max(frame.seq for frame in reader.frames() if frame.tag == 131)  # SessionStart
    journal.cut(tmp_path / "j", tmp_path / "stopped", at=last)
    told = b"may need 1099511627776 bytes of files in memory, more than the limit of "
    for arguments, limit in (
        (["--max-files", "4MiB"], b"4194304"),
        (["--max-mounts", "0"], b"limit of 0"),
        (["--max-memory", "64KiB"], b"limit of 65536"),
        (["--max-module", "9"], b"limit of 9"),
        (["--max-journal", "9"], b"limit of 9"),
    ):
        for command, code in (("resume", 125), ("replay", 1)):
            done = run_tool(command, *arguments, "stopped", at=tmp_path)
            assert (done.returncode, done.stderr.count(b"\n")) == (code, 1), done.stderr
            assert limit in done.stderr
            assert f"raise it with {arguments[0]} ".encode() in done.stderr
    stranger = {"XDG_STATE_HOME": str(tmp_path / "stranger")}
    done = run_tool("resume", "stopped", at=tmp_path, env=stranger)
    assert (done.returncode, told + b"1073741824" in done.stderr) == (125, True)
    assert run_tool("resume", "-q", "stopped", at=tmp_path).returncode == 0
