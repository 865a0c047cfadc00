"""Every error that the packages raise has a section that explains it, and docs/errors.md lists its message."""

import re
import sys

import pytest

from teacher_cache.teachers import REASONS
from tests.docs.commands import ROOT

sys.path.insert(0, str(ROOT / "docs" / "code"))
import error_families
import error_index

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
HEADINGS = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
RAISED = error_index.raised()
CODES = error_index.error_classes()


def test_every_error_belongs_to_a_section_of_the_page():
    assert len(RAISED) > 500
    lost = [one for one in RAISED if error_families.family_of(one.error, one.module) not in HEADINGS]
    assert lost == [], "name their section in docs/code/error_families.py, and write it in docs/troubleshooting.md"


def test_every_section_of_the_table_has_an_error_and_every_module_exists():
    assert [name for name in error_families.BY_CLASS if name not in CODES] == []
    used = {error_families.module_of(one.module) for one in RAISED}
    assert [name for name in error_families.BY_MODULE if name not in used] == []
    families = {*error_families.BY_CLASS.values(), *error_families.BY_MODULE.values()}
    assert [heading for heading in HEADINGS if heading not in families] == ["Exit codes", "Failed rows"]


def test_the_list_of_messages_is_what_the_code_says():
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    assert page == error_index.page(RAISED), "run make docs"


def test_every_exit_code_and_every_reason_of_a_failure_is_explained():
    assert sorted(set(CODES.values())) == [2, 4]
    assert [code for code in (0, 2, 3, 4, 5, 130) if f"| {code} |" not in PAGE] == []
    assert [reason for reason in REASONS if f"| `{reason}` |" not in PAGE] == []


@pytest.mark.parametrize(("code", "message"), [
    ('raise ArmadaError(f"{path}: no such file; " + "copy it again")', "…: no such file; copy it again"),
    ('expected = f"{x}: expected a row"\n    raise SpecError(f"{expected}, found {y}")', "…: expected a row, found …"),
    ('raise MissingPackageError("ftfy", "demo", purpose)', "… needs the package ftfy: pip install …"),
])  # fmt: skip
def test_a_message_is_read_from_the_code(tmp_path, monkeypatch, code, message):
    for package in error_index.PACKAGES:
        (tmp_path / package).mkdir()
    classes = "class ArmadaError(Exception): ...\nclass SpecError(ArmadaError): ...\n"
    classes += "class MissingPackageError(ArmadaError): ...\n"
    (tmp_path / "distill" / "new.py").write_text(f"{classes}def fail():\n    {code}\n")
    monkeypatch.setattr(error_index, "ROOT", tmp_path)
    (found,) = error_index.raised()
    assert (found.module, found.message) == ("distill/new", message)
    assert error_families.family_of(found.error, found.module) is None or found.error == "MissingPackageError"
