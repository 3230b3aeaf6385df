"""Errors whose text is meant for the person in front of the screen."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with what was given.

    Attributes
    ----------
    case
        The id of the case (or the name of the setting or file) it is about.
    cause
        What was wanted and what was found instead.
    remedy
        What the person can do about it.
    """

    case: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.case}: {self.cause} {self.remedy}"


# Of what happens while a file is read or written.
_NOT_PERMITTED = "A file or folder may not be read or written. Ask for access to it, or choose a folder of yours."
if sys.platform == "win32":
    # Excel, for one, lets nobody replace what it shows.
    _NOT_PERMITTED += " If it is open in another program, close it there."
_NO_FOLDER = "Wanted a folder where there is a file. Choose another one."
_RESUME = "then resume, or start anew if nothing was saved yet."
_DISK_FAILS = "The disk or its server reports errors. Reconnect it, or ask its administrator"
_SENTENCE_OF_ERRNO: dict[int | None, str] = {
    errno.ENOSPC: f"There is no room left on the disk. Make some, {_RESUME}",
    errno.EDQUOT: f"Your share of the disk is used up. Delete files of yours or ask for more, {_RESUME}",
    errno.EIO: f"{_DISK_FAILS}, {_RESUME}",
    errno.ESTALE: f"{_DISK_FAILS}, {_RESUME}",
    errno.EACCES: _NOT_PERMITTED,
    errno.EPERM: _NOT_PERMITTED,
    errno.EROFS: "The disk cannot be written to. Choose a folder on another one.",
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
    errno.ENAMETOOLONG: "A name or a path is longer than this system takes. Choose a shorter one.",
}

# Names of files have a dot, or letters that ids need not have.
_ID_OR_SETTING = re.compile(r"[A-Za-z0-9_-]+")
# All but tabs and ends of lines.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# Windows' numbers for a library that is missing, lacks a part, or fails as it starts; and for too small a paging file.
_BROKEN_LIBRARY = (126, 127, 1114)
_PAGING_FILE_TOO_SMALL = 1455


def first_of(names: Sequence[str], most: int = 4) -> str:
    """The first few of the names, and how many more there are: "a, b, c, d and 3 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class UserError(Exception):
    """Something a person can mend; its text is shown without a traceback."""


class InputError(UserError):
    """Everything that is wrong with the input, found before any time is spent on training.

    Parameters
    ----------
    problems
        At least one problem; all of them are named in the message.
    """

    def __init__(self, problems: Sequence[Problem] | Problem) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def for_terminal(text: str) -> str:
    """The text with control characters spelled out: names in files from elsewhere must not steer the terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def recorded_sentence(error: BaseException) -> str:
    """The same as :func:`sentence_for` for what is kept and handed on: files may be named after patients."""
    if isinstance(error, InputError):
        named = ", ".join(dict.fromkeys(p.case for p in error.problems if _ID_OR_SETTING.fullmatch(p.case)))
        return (
            f"The input could not be used{named and f' ({named})'}. The reason was shown where the command was started."
        )
    return sentence_for(error)


def not_readable(name: str) -> InputError:
    """What to say of a file that the system does not let this person read."""
    return InputError(
        Problem(name, "The file may not be read.", "Ask for access to it, or copy it to a folder of yours.")
    )


class TrainingError(UserError):
    """Training cannot go on; what was saved so far is whole."""


class PredictionError(UserError):
    """A network's answer cannot be used."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was wanting, of the computer or of its GPU, which PyTorch says by name or in the text."""
    signs = (
        "out of memory",
        "can't allocate memory",
        "not enough memory",
        "insufficient memory",
        "failed to allocate memory",
        "alloc_failed",
        # Metal's, for more than one buffer of it can hold.
        "invalid buffer size",
    )
    by_name = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    by_name |= getattr(error, "winerror", None) == _PAGING_FILE_TOO_SMALL
    if by_name or any(sign in str(error).lower() for sign in signs):
        return True
    # MONAI's sliding windows raise an error of their own from it.
    return error.__cause__ not in (None, error) and is_out_of_memory(error.__cause__)


def is_the_systems_refusal(error: BaseException) -> TypeGuard[OSError]:
    """Whether a file or folder could not be read or written for a reason that a person can mend."""
    return isinstance(error, OSError) and error.errno in _SENTENCE_OF_ERRNO


def sentence_for(error: BaseException) -> str:
    """What went wrong, for a person: the error's own text if it was meant for them, else a remedy or its kind."""
    if isinstance(error, UserError):
        return str(error)
    if is_out_of_memory(error):
        return (
            "There was not enough memory. Close other programs, or train one model (setting committee=1) or in smaller "
            "parts (batch_parts=2); with either a run can be resumed on the command line. Fewer filters (filters=8) or "
            "the preset cpu need less as well, in a new training."
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
    return f"Something unexpected went wrong ({type(error).__name__}). What was saved before is whole."
