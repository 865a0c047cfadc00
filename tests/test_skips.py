"""Under CI=true a skip passes only if tests/skips.txt lists it; the tests of pages aren't listed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]
SUITE = {
    "conftest": "from tests.skips import pytest_sessionfinish, pytest_terminal_summary",
    "test_one": "import pytest\ndef test_a(): pytest.skip('no such program')\ndef test_b(): pass",
    "test_module": "import pytest\npytest.importorskip('no_such_module')",
}
LISTED = "# why\ntest_one.py::test_a | no such *\n\ntest_module.py | could not import 'no_such_module'*\n"


@pytest.fixture
def suite(pytester, monkeypatch):
    """Runs a suite of one sound test, one skipped test and one skipped module, and gives its result."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\naddopts = -r s")
    pytester.makepyfile(**SUITE)

    def run(listed, ci="true", workers=0):
        monkeypatch.setenv("CI", ci)
        # Not a package: `tests` has to be this checkout's.
        pytester.mkdir("tests").joinpath("skips.txt").write_text(listed)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", str(workers))

    return run


@pytest.mark.parametrize("workers", [0, 2])
def test_a_skip_that_is_not_listed_fails_ci_and_is_named(suite, workers):
    result = suite(LISTED.replace("no such", "another reason"), workers=workers)
    assert result.ret == 1
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(
        ["*CI=true: 1 skipped, not listed in tests/skips.txt*", "test_one.py::test_a | no such *"]
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_module_that_skips_itself_has_to_be_listed_too(suite, workers):
    result = suite(LISTED.replace("test_module.py", "other.py"), workers=workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["test_module.py | could not import 'no_such_module'*"])


@pytest.mark.parametrize("workers", [0, 2])
def test_listed_skips_pass_and_their_reasons_are_printed(suite, workers):
    result = suite(LISTED, workers=workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED*no such program"])


def test_outside_ci_a_skip_passes(suite):
    assert suite("", ci="").ret == 0


def test_a_line_without_a_reason_is_an_error(suite):
    result = suite("test_one.py::test_a\n")
    assert result.ret != 0
    assert "skips.txt, line 1: expected `test id | reason`" in result.stdout.str() + result.stderr.str()


def test_ci_fails_where_no_chromium_is_found(tmp_path):
    """The repository's own list, and a real test of pages on a machine that has no browser."""
    nowhere = {"PATH": str(tmp_path), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path), "CI": "true"}
    (pages,) = (str(path.relative_to(ROOT)) for path in ROOT.glob("tests/pipelines/gallery/test_browser.py"))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", pages],
        cwd=ROOT,
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert " passed" not in run.stdout
    assert "skipped, not listed in tests/skips.txt" in run.stdout
    assert f"{pages}::" in run.stdout.partition("not listed in")[2]
