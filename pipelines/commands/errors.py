"""What a user sees of an error: one line, `error: what is wrong; what helps`, and an exit code; never a traceback.

Wrong usage (of typer, or of click in its older versions), errors of armada, and files that can't be read or written.
"""

from __future__ import annotations

import errno
from typing import Any

BAD_INPUT = 2  # the exit code
# Errors of the disk and of a user's files. Any other OSError is a fault of the program and keeps its traceback.
_OF_FILES = {
    errno.EACCES: "this user has no right to write it",
    errno.EDQUOT: "the disk quota is used up; make room and run the same command again",
    errno.EISDIR: "expected a file, found a folder",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.ENOENT: "no such file or folder",
    errno.ENOSPC: "the disk is full; make room and run the same command again",
    errno.ENOTDIR: "expected a folder, found a file on the way",
    errno.EPERM: "this user has no right to write it",
    errno.EROFS: "the file system can only be read",
}


def is_usage(error: BaseException) -> bool:
    """Return whether an error is one of usage: of click, or of the copy of it in typer."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def usage_in_words(error: Any) -> str:
    """Return an error of usage as one line: what is wrong, the nearest known word, and the command that lists them; ""
    if there is nothing to say, as the help was printed."""
    from teacher_cache import did_you_mean

    context = getattr(error, "ctx", None)
    if name := getattr(error, "possibilities", None) is not None and error.option_name:
        known = [flag for one in context.command.params for flag in one.opts if not one.hidden] if context else []
        message = f"unknown option {name}{did_you_mean(name, [*known, *error.possibilities, '--help'])}"
    else:
        message = " ".join(str(error.format_message()).split()).rstrip(".")
        for word in ("Did you mean", "Input should"):  # our errors begin and go on with small letters
            message = message.replace(f". {word}", f"; {word.lower()}").replace(word, word.lower())
        message = message[:1].lower() + message[1:]
    return f"{message} (see {context.command_path} --help)" if message and context else message


def in_words(error: BaseException) -> tuple[str, int] | None:
    """Return the message of an error that a user can mend and its exit code; None if it is a fault of the program."""
    if is_usage(error):
        return usage_in_words(error), BAD_INPUT
    exit_code = getattr(error, "exit_code", None)
    if isinstance(exit_code, int) and not type(error).__module__.startswith(("typer", "click")):
        return f"{error}{_other_folder(str(error))}", exit_code
    if _is_of_a_full_disk(error):
        return f"{_place(error)}{_OF_FILES[errno.ENOSPC]}", BAD_INPUT
    if isinstance(error, OSError) and error.errno in _OF_FILES:
        return f"{_place(error)}{_OF_FILES[error.errno]}{_other_folder(str(error.filename))}", BAD_INPUT
    return None


def _place(error: BaseException) -> str:
    filename = getattr(error, "filename", None)
    return f"{filename}: " if filename is not None else ""


def _is_of_a_full_disk(error: BaseException | None) -> bool:
    """Return whether a full disk is at the bottom of an error: torch and safetensors raise errors of their own then."""
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _other_folder(text: str) -> str:
    """Return the advice that ends an error about rights or room in this user's folder of derived data."""
    from teacher_cache import user_folder

    try:
        folder = user_folder()
    except Exception:  # there is no home folder, which is the error
        return ""
    is_there = str(folder) in text or (text.startswith("/") and folder.is_relative_to(text))
    return "; set XDG_CACHE_HOME to a folder of yours with room" if is_there and not folder.is_dir() else ""
