"""Errors whose text is meant for the user."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard


@dataclass(frozen=True)
class Problem:
    """One problem of the input.

    Attributes
    ----------
    case
        The id of the case, or the name of the setting or file, that it concerns.
    cause
        What was wanted and what was found instead.
    remedy
        What the user can do about it.
    """

    case: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.case}: {self.cause} {self.remedy}"


# Messages for errors while a file is read or written.
_NOT_PERMITTED = "A file or folder may not be read or written. Ask for access to it, or choose a folder of yours."
if sys.platform == "win32":
    # Excel, for example, locks the file that it shows.
    _NOT_PERMITTED += " If it is open in another program, close it there."
_NO_FOLDER = "Wanted a folder where there is a file. Choose another one."
_RESUME = "then resume, or start again if nothing was saved yet."
_DISK_FAILS = "The disk or its server reports errors. Reconnect it, or ask its administrator"
_SENTENCE_OF_ERRNO: dict[int | None, str] = {
    errno.ENOSPC: f"There is no space left on the disk. Free some, {_RESUME}",
    errno.EDQUOT: f"Your disk quota is used up. Delete some of your files or ask for more space, {_RESUME}",
    errno.EIO: f"{_DISK_FAILS}, {_RESUME}",
    errno.ESTALE: f"{_DISK_FAILS}, {_RESUME}",
    errno.EACCES: _NOT_PERMITTED,
    errno.EPERM: _NOT_PERMITTED,
    errno.EROFS: "The disk cannot be written to. Choose a folder on another one.",
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
    errno.ENAMETOOLONG: "A name or path is longer than this system allows. Choose a shorter one.",
}

# Ids and names of settings match this; names of files usually do not.
_ID_OR_SETTING = re.compile(r"[A-Za-z0-9_-]+")
# Control characters except tabs and line ends.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# Windows error codes: a library is missing, lacks a symbol or fails to initialize; the paging file is too small.
_BROKEN_LIBRARY = (126, 127, 1114)
_PAGING_FILE_TOO_SMALL = 1455


def first_of(names: Sequence[str], most: int = 4) -> str:
    """The first names and the number of the others: "a, b, c, d and 3 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class UserError(Exception):
    """An error that the user can fix; its text is shown without a traceback."""


class InputError(UserError):
    """All problems of the input, raised before any time is spent on training.

    Parameters
    ----------
    problems
        At least one problem; the message names all of them.
    """

    def __init__(self, problems: Sequence[Problem] | Problem) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def for_terminal(text: str) -> str:
    """The text with control characters escaped: names in foreign files must not control the terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def recorded_sentence(error: BaseException) -> str:
    """Like :func:`sentence_for`, for records that are kept and shared: without file names, which may name patients."""
    if isinstance(error, InputError):
        named = ", ".join(dict.fromkeys(p.case for p in error.problems if _ID_OR_SETTING.fullmatch(p.case)))
        return (
            f"The input could not be used{named and f' ({named})'}. The reason was shown where the command was started."
        )
    return sentence_for(error)


def not_readable(name: str) -> InputError:
    """The error for a file that the user has no permission to read."""
    return InputError(
        Problem(name, "The file may not be read.", "Ask for access to it, or copy it to a folder of yours.")
    )


class TrainingError(UserError):
    """Training cannot continue; everything saved so far is intact."""


class PredictionError(UserError):
    """A network's output cannot be used."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the computer or its GPU ran out of memory; PyTorch says so by the error's type or text."""
    signs = (
        "out of memory",
        "can't allocate memory",
        "not enough memory",
        "insufficient memory",
        "failed to allocate memory",
        "alloc_failed",
        # Metal's message for a buffer that is too large.
        "invalid buffer size",
    )
    by_name = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    by_name |= getattr(error, "winerror", None) == _PAGING_FILE_TOO_SMALL
    if by_name or any(sign in str(error).lower() for sign in signs):
        return True
    # MONAI's sliding window raises its own error from it.
    return error.__cause__ not in (None, error) and is_out_of_memory(error.__cause__)


def is_the_systems_refusal(error: BaseException) -> TypeGuard[OSError]:
    """Whether the system refused to read or write a file for a reason that the user can fix."""
    return isinstance(error, OSError) and error.errno in _SENTENCE_OF_ERRNO


def sentence_for(error: BaseException) -> str:
    """The message for the user: the error's own text if it is meant for them, else a remedy or the error's type."""
    if isinstance(error, UserError):
        return str(error)
    if is_out_of_memory(error):
        return (
            "There was not enough memory. Close other programs, or train one model (setting committee=1) or in smaller "
            "parts (batch_parts=2); a run can be resumed with either on the command line. In a new training, fewer "
            "filters (filters=8) or the preset cpu also need less."
        )
    if isinstance(error, ImportError):
        missing = error.name or "a part of PyTorch"
        return f"{missing} is missing or broken. Install it, or install it again."
    if getattr(error, "winerror", None) in _BROKEN_LIBRARY:
        return (
            "A library of PyTorch or ITK cannot be loaded. Install the Microsoft Visual C++ Redistributable, then "
            "install PyTorch again."
        )
    if is_the_systems_refusal(error):
        return _SENTENCE_OF_ERRNO[error.errno]
    return f"Something unexpected went wrong ({type(error).__name__}). Everything saved before is intact."
