"""Output for people: a live progress bar on a terminal, no colours with NO_COLOR, plain lines in a log."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

import pytest

from tests.distill.tiny import save_student
from tests.pipelines.cli import armada, command, environment

COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")


def on_a_terminal(*words, **extra):
    """Return the exit code and everything that the command wrote to its terminal."""
    try:
        ours, theirs = pty.openpty()
    except OSError:
        pytest.skip("no pseudo-terminal here; get one by: mount -t devpts devpts /dev/pts")
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        command(*words), env=environment(TERM="xterm-256color", **extra), stdout=theirs, stderr=theirs, stdin=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return process.wait(timeout=200), shown


@pytest.fixture
def training(tmp_path):
    """Return the command of a small run."""
    for name in ("train", "test"):
        rows = "".join(f'{{"text": "{name} a good plane {i}", "sentiment": "positive"}}\n' for i in range(12))
        rows += "".join(f'{{"text": "{name} a bad plane {i}", "sentiment": "negative"}}\n' for i in range(12))
        (tmp_path / f"{name}.jsonl").write_text(rows)
    student = save_student(tmp_path / "student")
    files = ("--data-files", tmp_path, "--out", tmp_path / "out", "--control", "undistilled")
    return ("train", "--task", "demo/sentiment", "--student", student, *files, "--epochs", 2, "--batch-size", 4)


def test_a_terminal_shows_a_live_bar_and_no_colours_with_no_color(training):
    code, shown = on_a_terminal(*training, NO_COLOR=1)
    assert code == 0, shown
    assert re.search(rb"student: +100%", shown)
    assert b"\r" in shown
    assert COLOUR.findall(shown) == []


def test_a_log_gets_lines_and_no_control_characters(training):
    run = armada(*training)
    assert run.returncode == 0, run.stderr
    assert len(re.findall(r"^student: +100%.*12/12", run.stderr, re.MULTILINE)) == 1
    assert not re.search(r"[\x1b\r]", run.stderr + run.stdout)


def test_ctrl_c_is_exit_code_130_and_the_same_command_continues(training):
    words = [*training[:-4], "--epochs", 150, "--batch-size", 4, "--save-steps", 5]
    process = subprocess.Popen(command(*words), env=environment(), stderr=subprocess.PIPE, text=True)
    saved = training[training.index("--out") + 1] / "checkpoints"
    while not any(path.name != "step-00000000.pt" for path in saved.glob("step-*.pt")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "run the same command again to continue" in errors
    assert "Traceback" not in errors
    run = armada(*words)
    assert run.returncode == 0, run.stderr
    first = re.search(r"student: +\d+%[^|]*\| *[^|]*\| *(\d+)/900", run.stderr)
    assert first, run.stderr
    assert int(first[1]) > 0


@pytest.mark.parametrize("words", [("--help",), ("cache", "build"), ("cache", "status", "/nowhere")])
def test_help_and_errors_have_no_colours_with_no_color_or_in_a_log(words):
    assert COLOUR.findall(on_a_terminal(*words, NO_COLOR=1)[1]) == []
    run = armada(*words)
    assert "\x1b" not in run.stdout + run.stderr


def test_the_pattern_for_colours_finds_them_on_a_plain_terminal():
    assert COLOUR.findall(on_a_terminal("--help")[1]) != []
