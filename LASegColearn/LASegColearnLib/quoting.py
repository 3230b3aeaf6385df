"""Arguments in plain ASCII, for launchers on Windows that do not hand on others as they are given.

Slicer's launcher of Python did not before February 2026 (Slicer's pull request 9033): a study in a folder ``Jörg`` was
not found.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence

# Comes first; the others are quoted then.
QUOTED = "--quoted"
_AS_THEY_ARE = "".join(character for character in map(chr, range(32, 127)) if character != "%")


def quote(argument: str) -> str:
    """An argument in ASCII, the same where it is that already and has no percent sign.

    A folder of Linux whose name is not UTF-8 is handed on too, as :func:`os.fsdecode` has it.
    """
    return urllib.parse.quote(argument, safe=_AS_THEY_ARE, errors="surrogateescape")


def unquoted(arguments: Sequence[str]) -> list[str]:
    """The arguments as they were before :func:`quote`, if they begin with :data:`QUOTED`; else as they are."""
    if list(arguments[:1]) != [QUOTED]:
        return list(arguments)
    return [urllib.parse.unquote(argument, errors="surrogateescape") for argument in arguments[1:]]
