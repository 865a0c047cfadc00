"""A bare surrounding: a locale of C, odd paths, closed streams, a full disk, a narrow terminal, no home."""

import errno
import signal
import subprocess
import sys

import pytest
import torch

from distill.training.checkpoints import Checkpoints
from pipelines.cli import FIRST, start_text
from pipelines.commands.errors import in_words
from teacher_cache import ArmadaError, Cache, CacheError, build, choose, open_features, verify
from tests.fakes import encoder, teacher
from tests.pipelines.cli import FAKES, command, environment


def shell(line, *words, **extra):
    """Run a line of shell, in which "$@" is the command line of armada with these words."""
    return subprocess.run(
        ["sh", "-c", line, "sh", *command(*words)], env=environment(**extra), capture_output=True, timeout=200
    )


def test_in_a_locale_of_c_and_without_stdin_and_stderr_odd_names_are_read_and_no_file_is_written_into(tmp_path):
    folder = tmp_path / "mit Leerzeichen ä 猫"
    folder.mkdir()
    (folder / "rows ü.txt").write_text("Straße 猫\nzwei\n", "utf-8")
    cache, page = folder / "cache é", folder / "Bericht ß.html"
    words = ("cache", "build", folder / "rows ü.txt", *FAKES, "--cache", cache, "--report", page)
    run = shell('"$@" <&- 2>&-', *words, LC_ALL="C", LANG="")
    assert run.returncode == 0, run.stdout
    assert b"drawn                        2" in run.stdout
    assert verify(str(cache)).problems == []
    assert "Straße 猫" in page.read_text("utf-8")


def test_a_reader_that_stops_early_ends_a_command_without_a_traceback():
    run = shell('"$@" | head -1', "tasks")
    assert run.stdout.startswith(b"demo/sentiment")
    assert run.stderr == b""


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_armada_alone_fits_the_terminal_and_names_each_first_command(columns):
    lines = start_text(columns).splitlines()
    longest = max(len(command) for command, _ in FIRST) + 2  # a command is not broken
    assert max(map(len, lines)) <= max(columns, longest)
    for first, words in FIRST:
        assert any(line.strip().startswith(first) for line in lines)
        assert any(line.endswith(words) for line in lines)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a b/c"), "/a b/c: this user has no right to write it"),
        (OSError(errno.EROFS, "Read-only file system", "/ro/x"), "/ro/x: the file system can only be read"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; make room"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full; make room"),
        (FileNotFoundError(errno.ENOENT, "No such file", "gone"), "gone: no such file or folder"),
        (CacheError("/x: damaged"), "/x: damaged"),
    ],
)
def test_errors_of_files_and_rights_are_one_line_and_exit_code_2(error, message):
    found = in_words(error)
    assert found is not None
    assert found[0].startswith(message)
    assert "\n" not in found[0]
    assert found[1] == 2


def test_a_full_disk_below_another_error_is_found_and_a_fault_of_the_program_keeps_its_traceback():
    above = RuntimeError("file write failed")
    above.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert in_words(above) == ("the disk is full; make room and run the same command again", 2)
    for fault in (ValueError("x"), KeyError("x"), OSError(errno.EIO, "Input/output error")):
        assert in_words(fault) is None


def test_a_users_folder_that_can_not_be_made_is_an_error_that_says_which_variable_names_another(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/x")
    cache = Cache(str(tmp_path / "cache"), create=True)
    build(cache, ["one"], teacher(), encoder())
    with pytest.raises(CacheError) as caught:
        open_features(cache, *choose(cache, None, None))
    message, code = in_words(caught.value)
    assert message.endswith("; set XDG_CACHE_HOME to a folder of yours with room")
    assert code == 2


def test_a_checkpoint_that_finds_no_room_is_one_error_and_the_former_one_stays(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, {"a": 1})
    checkpoints.save(1, {"step": torch.tensor(1)})
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(RuntimeError("unexpected pos 1 vs 2")))
    with pytest.raises(RuntimeError, match="unexpected pos"):
        checkpoints.save(2, {})
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 4096}))
    with pytest.raises(ArmadaError, match="no room left on the disk for a checkpoint"):
        checkpoints.save(2, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]


def test_ctrl_c_is_answered_at_once_and_ends_a_build_of_free_pictures_even_in_the_middle_of_a_call():
    lines = [
        "import sys, time",
        "from pipelines.commands.interrupts import stopping",
        "with stopping():",
        "    print('begun', flush=True)",
        "    time.sleep(300)",  # a call that asks nobody whether to stop
    ]
    words = [sys.executable, "-c", "\n".join(lines)]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert errors == b"\nstopping; what is finished is kept, and the same command goes on from it\n"
    assert process.returncode == 130
