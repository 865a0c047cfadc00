"""Every path that README.md, CONTRIBUTING.md and docs/ name exists, and the lists of folders are complete."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
PAGES = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
TOP = ("teacher_cache", "distill", "pipelines", "tests", "benchmarks", "data", ".ci")
PLACEHOLDERS = ("NAME", "GROUP", "TASK")


def text_of(document):
    return (ROOT / document).read_text("utf-8")


def named_paths(text):
    """Return all paths below a folder of this repository, and file names at its top, in code or code blocks."""
    below = re.findall(rf"(?<![\w/.-])((?:{'|'.join(map(re.escape, TOP))})/[\w/.-]*\w)", text)
    top = re.findall(r"`([A-Z][A-Z]+\.md|pyproject\.toml|Makefile)`", text)
    return sorted({name for name in below + top if not any(word in name for word in PLACEHOLDERS)})


def listed_folders(text):
    """Return the folders of the indented list in a code block, each with its parent's name before it."""
    (block,) = re.findall(r"^```\n(teacher_cache/ .*?)^```", text, re.DOTALL | re.MULTILINE)
    folders, parent = [], ""
    for line in block.splitlines():
        name = line.split()[0]
        assert name.endswith("/"), line
        assert len(line.split()) > 2, f"{name} has no description"
        if line.startswith(" "):
            folders.append(f"{parent}{name}")
        else:
            parent = name
            folders.append(name)
    return folders


def packages():
    """Return the folders of Python code and of templates in the three packages."""
    found = {path.parent for name in TOP[:3] for path in (ROOT / name).rglob("__init__.py")}
    found |= {ROOT / "pipelines" / "templates", ROOT / "pipelines" / "studies"}
    return {f"{path.relative_to(ROOT)}/" for path in found}


@pytest.mark.parametrize("document", [*DOCUMENTS, *PAGES])
def test_every_path_that_the_document_names_exists(document):
    named = named_paths(text_of(document))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_list_of_folders_is_complete_and_every_folder_exists(document):
    listed = listed_folders(text_of(document))
    assert [name for name in listed if not (ROOT / name).is_dir()] == []
    assert packages() - set(listed) == set()
    assert len(listed) == len(set(listed))


def test_a_missing_path_would_be_found():
    assert named_paths("see `distill/nothing.py` and `distill/NAME.py`, `NOTES.md`") == [
        "NOTES.md",
        "distill/nothing.py",
    ]


def test_no_folder_has_more_than_16_python_files_and_no_file_but_a_test_more_than_250_lines():
    files = [path for top in (*TOP, "examples", "docs") for path in (ROOT / top).rglob("*.py")]
    assert len(files) > 500
    folders = Counter(str(path.parent.relative_to(ROOT)) for path in files)
    assert {name: count for name, count in folders.items() if count > 16} == {}
    lines = {
        str(path.relative_to(ROOT)): path.read_text("utf-8").count("\n") for path in files if "tests" not in path.parts
    }
    assert {name: count for name, count in lines.items() if count > 250} == {}
