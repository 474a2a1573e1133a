"""The metadata of a built distribution: a package index can show it, and pip can install it."""

from __future__ import annotations

import re
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import journal
from tests.support.build_trees import copy_build_tree, run_setup

CODE = re.compile(r"^(```+)[^\n]*\n.*?^\1\n|`[^`\n]+`", re.MULTILINE | re.DOTALL)
TARGETS = re.compile(
    r"""\]\(\s*<?([^)\s>]*)         # [text](target) and ![text](target)
    | ^\s{0,3}\[[^\]]+\]:\s*<?(\S+)  # [name]: target
    | (?:href|src|srcset)\s*=\s*["']([^"']*)  # HTML
    """,
    re.MULTILINE | re.VERBOSE,
)


def relative_targets(text: str) -> list[str]:
    """Return the targets of links and images in Markdown that are not absolute https addresses."""
    targets = (next(filter(None, found), "") for found in TARGETS.findall(CODE.sub("", text)))
    return [target for target in targets if not target.startswith("https://")]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Message:
    """The file METADATA of a build of this tree."""
    folder = tmp_path_factory.mktemp("build")
    done = run_setup(copy_build_tree(folder / "tree"), "dist_info", "--output-dir", str(folder))
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.dist-info/METADATA")
    return Parser().parsestr(path.read_text(encoding="utf-8"))


def test_an_index_can_show_the_description(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = metadata.get_payload()
    assert isinstance(description, str)
    assert "# journal" in description
    assert relative_targets(description) == []


@pytest.mark.parametrize(
    "text",
    [
        "[page](docs/page.md)",
        "![picture](docs/picture.svg)",
        "[![badge](https://a.example/b.svg)](CHANGELOG.md)",
        "[part](#part)",
        "text [a][b]\n\n[b]: docs/page.md\n",
        '<img src="docs/picture.svg">',
        "<a href='LICENSE'>license</a>",
        "[mail](http://a.example/)",
    ],
)
def test_relative_links_and_images_are_recognized(text: str) -> None:
    assert len(relative_targets(text)) == 1


def test_absolute_links_and_code_are_no_relative_links() -> None:
    text = "[a](https://a.example/b)\n\n```python\ntable[0](row)\n```\n\n`x[0](y)`"
    assert relative_targets(text) == []


def test_the_license_the_authors_and_the_versions_are_stated(metadata: Message) -> None:
    assert metadata["Name"] == "wasm-journal"
    assert metadata["Version"] == journal.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Author"] == "journal developers"
    assert "Home-page" not in metadata
    assert "Project-URL" not in metadata
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Keywords"]
    classifiers = metadata.get_all("Classifier") or []
    groups = {classifier.partition(" :: ")[0] for classifier in classifiers}
    assert groups >= {"Development Status", "Intended Audience", "Operating System", "Topic"}
    assert "License" not in groups  # The expression replaces it, and an index refuses both.
    for version in ("3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {version}" in classifiers
    assert "Typing :: Typed" in classifiers


def test_one_extra_brings_all_that_the_engine_needs(metadata: Message) -> None:
    requirements = metadata.get_all("Requires-Dist") or []
    engine = [line for line in requirements if re.search(r"extra == .engine.", line)]
    assert {re.split(r"[^\w-]", line)[0] for line in engine} == {"wasmtime", "icpp-binaryen"}
    assert all("platform_machine" in line for line in engine if line.startswith("icpp-binaryen"))
    assert "asyncify" not in (metadata.get_all("Provides-Extra") or [])


def test_a_plain_build_requires_nothing_of_a_compiled_one(metadata: Message) -> None:
    requirements = metadata.get_all("Requires-Dist") or []
    base = {re.split(r"[^\w-]", line)[0] for line in requirements if "extra ==" not in line}
    assert base == {"construct", "zstandard", "xxhash", "google-re2", "lmdb", "typer", "rich"}


def test_the_license_file_is_part_of_the_metadata(tmp_path: Path) -> None:
    done = run_setup(copy_build_tree(tmp_path / "tree"), "dist_info", "--output-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.dist-info/**/LICENSE")
    assert "Apache License" in path.read_text(encoding="utf-8")
