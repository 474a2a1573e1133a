"""Commands on sealed journals: keys, heads, and nothing in plain text."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from journal.format import seal_key, segment_header
from journal.log.writer import Writer
from tests.support.command_line import Done, build_environment, run_inside, run_tool
from tests.support.programs import GUESTS
from tests.support.sealed_journals import KEY, OTHER_KEY

SECRET = "plain-text-of-a-secret"
GUEST = GUESTS / "cat.wasm"


@pytest.fixture(autouse=True)
def _no_keys_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOURNAL_KEY_FILE", "JOURNAL_PASSPHRASE_FILE", "JOURNAL_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(seal_key, "SCRYPT_COST_LOG2", 10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    KEY.write(tmp_path / "key")
    OTHER_KEY.write(tmp_path / "other")
    return tmp_path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a sealed journal of a run that has read and printed the secret."""
    folder = tmp_path_factory.mktemp("recorded")
    KEY.write(folder / "key")
    done = run_tool(
        *("run", "--seal-key", "key", "--no-root", "--env", f"A={SECRET}", "-j", "a.journal"),
        GUEST,
        at=folder,
        stdin=SECRET.encode(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == SECRET.encode()
    return (folder / "a.journal").read_bytes()


@pytest.fixture
def sealed(recorded: bytes, folder: Path) -> Path:
    path = folder / "a.journal"
    path.write_bytes(recorded)
    return path


def is_sealed(path: Path) -> bool:
    return segment_header.read(path.read_bytes(), 0).is_sealed


def check_refused(done: Done, sentence: str, code: int = 1) -> None:
    assert done.returncode == code
    assert sentence in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


def files_with_secrets(folder: Path) -> list[Path]:
    """Return the files with the secret, in this folder and in the cache of the user."""
    cache = Path(build_environment()["XDG_CACHE_HOME"]) / "wasm-journal"
    return [
        file
        for root in (folder, cache)
        for file in root.rglob("*")
        if file.is_file() and SECRET.encode() in file.read_bytes()
    ]


def test_a_key_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    done = run_inside("keygen", "new", at=tmp_path)
    assert done.returncode == 0
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    check_refused(run_inside("keygen", "new", at=tmp_path), "new already exists")
    check_refused(run_inside("keygen", "no/new", at=tmp_path), "No such file")


def test_a_sealed_run_is_read_only_with_its_key(sealed: Path, folder: Path) -> None:
    assert is_sealed(sealed)
    assert not files_with_secrets(folder)
    for command in ("info", "inspect", "verify", "replay", "stats", "tail", "snapshots"):
        check_refused(run_inside(command, "a.journal", at=folder), "its key is needed")
        done = run_inside(command, "--key-file", "other", "a.journal", at=folder)
        check_refused(done, "the given key is another one")
        done = run_inside(command, "--key-file", "key", "a.journal", at=folder)
        assert done.returncode == 0, (command, done.stderr)
    done = run_tool("resume", "--key-file", "key", "a.journal", at=folder)
    assert done.returncode == 0, done.stderr
    check_refused(run_tool("resume", "a.journal", at=folder), "its key is needed", 125)
    assert run_inside("verify", "--headers", "a.journal", at=folder).returncode == 0


COPIES = {
    "compact": ["compact", "a.journal", "-o", "b.journal"],
    "concat": ["concat", "a.journal", "-o", "b.journal"],
    "cut": ["cut", "a.journal", "--at", "3", "-o", "b.journal"],
    "filter": ["filter", "a.journal", "-o", "b.journal"],
    "recover": ["recover", "a.journal", "b.journal"],
}


@pytest.mark.parametrize("name", COPIES)
def test_a_command_that_writes_a_journal_keeps_the_seal(
    sealed: Path, folder: Path, name: str
) -> None:
    arguments = COPIES[name]
    if name != "recover":
        check_refused(run_inside(*arguments, at=folder), "its key is needed")
        assert not (folder / "b.journal").exists()
    done = run_inside(arguments[0], "--key-file", "key", *arguments[1:], at=folder)
    assert done.returncode == 0, done.stderr
    assert is_sealed(folder / "b.journal")
    (folder / "b.journal").unlink()
    keys = ["--key-file", "key", "--seal-key", "other"]
    assert run_inside(arguments[0], *keys, *arguments[1:], at=folder).returncode == 0
    done = run_inside("verify", "--key-file", "other", "b.journal", at=folder)
    assert done.returncode == 0, done.stderr
    assert not files_with_secrets(folder)


def test_a_fork_keeps_the_seal_of_the_files_that_it_shares(sealed: Path, folder: Path) -> None:
    fork = ["fork", "a.journal", "--at", "3", "--into", "b.journal"]
    check_refused(run_inside(*fork, at=folder), "its key is needed")
    assert not (folder / "b.journal").exists()
    done = run_inside(*fork, "--key-file", "key", at=folder)
    assert done.returncode == 0, done.stderr
    assert b"shares 1 file" in done.stdout
    files = sorted((folder / "b.journal").iterdir())
    assert files[0].samefile(sealed)
    assert all(map(is_sealed, files))
    check_refused(run_inside("verify", "b.journal", at=folder), "its key is needed")
    done = run_inside("verify", "--key-file", "key", "b.journal", at=folder)
    assert done.returncode == 0, done.stderr


def test_a_passphrase_comes_from_a_file_or_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ["run", "--no-root", "-j", "a.journal", "--force"]
    check_refused(run_tool(*run, "--seal", GUEST, at=folder), "no terminal to ask", 125)
    (folder / "words").write_text("correct horse\n")
    done = run_tool(*run, "--passphrase-file", "words", GUEST, at=folder)
    assert done.returncode == 0, done.stderr
    assert is_sealed(folder / "a.journal")
    monkeypatch.setenv("JOURNAL_PASSPHRASE", "correct horse")
    assert run_inside("verify", "--passphrase", "a.journal", at=folder).returncode == 0
    monkeypatch.setenv("JOURNAL_PASSPHRASE", "another")
    done = run_inside("verify", "--passphrase", "a.journal", at=folder)
    check_refused(done, "sealed with a passphrase, and the given key is another one")
    done = run_inside("verify", "--passphrase", "--key-file", "key", "a.journal", at=folder)
    assert done.returncode == 2


def test_a_variable_names_the_key_file(
    sealed: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_KEY_FILE", os.fspath(folder / "key"))
    assert run_inside("info", "a.journal", at=folder).returncode == 0
    plain = folder / "plain.journal"
    done = run_tool("run", "--no-root", "-j", plain, GUEST, at=folder)
    assert done.returncode == 0, done.stderr
    assert is_sealed(plain)  # A key that is given is used.


def test_a_journal_without_a_seal_is_refused_with_a_key(folder: Path) -> None:
    with Writer(folder / "a.journal") as writer:
        writer.append_frame(224, b"plain")
    done = run_inside("info", "--key-file", "key", "a.journal", at=folder)
    check_refused(done, "is not sealed: read it without a key")
    done = run_inside("concat", "--seal-key", "key", "a.journal", "-o", "b.journal", at=folder)
    assert done.returncode == 0, done.stderr
    assert is_sealed(folder / "b.journal")


def test_a_kept_head_refuses_an_earlier_state(sealed: Path, folder: Path) -> None:
    head = run_inside("head", "a.journal", at=folder).stdout.decode().strip()
    data = sealed.read_bytes()
    for command in ("info", "verify", "inspect", "replay"):
        arguments = [command, "--key-file", "key", "--expect-head", head, "a.journal"]
        assert run_inside(*arguments, at=folder).returncode == 0
    sealed.write_bytes(data[: len(data) - 152])  # The last marker.
    for command in ("info", "verify", "inspect", "replay"):
        arguments = [command, "--key-file", "key", "--expect-head", head, "a.journal"]
        check_refused(run_inside(*arguments, at=folder), "cut, set back or replaced")
    arguments = ["--key-file", "key", "--expect-head", head, "a.journal"]
    check_refused(run_tool("resume", *arguments, at=folder), "cut, set back or replaced", 125)
    done = run_inside("info", "--expect-head", "7", "a.journal", at=folder)
    check_refused(done, "is not a head")


def test_a_signed_run_is_told_from_an_unsigned_one(folder: Path) -> None:
    made = run_inside("keygen", "--sign", "signing", at=folder)
    (folder / "public").write_bytes(made.stdout)
    verify = ["verify", "--quiet", "--signed-by", "public", "a.journal"]
    run = ["run", "--no-root", "--force", "-j", "a.journal"]
    assert run_tool(*run, "--sign-key", "signing", GUEST, at=folder).returncode == 0
    assert run_inside(*verify, at=folder).returncode == 0
    assert (
        run_inside(*verify[:3], made.stdout.decode().strip(), *verify[4:], at=folder).returncode
        == 0
    )
    with Writer(folder / "a.journal") as writer:
        writer.append_frame(224, b"later")
    check_refused(run_inside(*verify, at=folder), "1 events after it are not", 3)
    done = run_inside("sign", "--sign-key", "signing", "--json", "a.journal", at=folder)
    assert done.returncode == 0, done.stderr
    assert run_inside(*verify, at=folder).returncode == 0
    check_refused(run_inside("sign", "--sign-key", "key", "a.journal", at=folder), "not a signing")


def test_snapshots_of_a_sealed_journal_leave_no_plain_text(folder: Path) -> None:
    run = ["run", "--seal-key", "key", "--no-root", "--snapshot-on", "first-stdin"]
    done = run_tool(
        *run, "--stop-after-snapshot", "-j", "a.journal", "--env", f"A={SECRET}", GUEST, at=folder
    )
    assert done.returncode == 0, done.stderr
    done = run_tool("resume", "--key-file", "key", "a.journal", at=folder, stdin=SECRET.encode())
    assert done.returncode == 0, done.stderr
    assert done.stdout == SECRET.encode()
    assert not files_with_secrets(folder)
    done = run_tool(*run, "--page-index", "-j", "b.journal", GUEST, at=folder)
    check_refused(done, "a sealed journal has no page index", 125)
    done = run_inside("index", "--rebuild", "--key-file", "key", "a.journal", at=folder)
    check_refused(done, "it has no page index")


@pytest.mark.deep
def test_the_memory_image_of_a_sealed_snapshot_is_not_cached(folder: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(folder / "cache")}
    images = folder / "cache" / "wasm-journal" / "images"
    for options, name in ((["--seal-key", "key"], "a.journal"), ([], "b.journal")):
        run = ["run", *options, "--no-root", "--snapshot-on", "first-stdin", "-j", name]
        done = run_tool(*run, "--stop-after-snapshot", GUEST, at=folder, env=cache)
        assert done.returncode == 0, done.stderr
        keys = ["--key-file", "key"] if options else []
        done = run_tool("resume", *keys, name, at=folder, stdin=b"line", env=cache)
        assert (done.returncode, done.stdout) == (0, b"line"), done.stderr
        assert images.exists() == (not options)
