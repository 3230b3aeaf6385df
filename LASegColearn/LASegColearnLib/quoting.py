"""Arguments in ASCII, for launchers on Windows that do not pass on other letters unchanged.

Slicer's launcher of Python did not before February 2026 (Slicer's pull request 9033): a study in a folder ``Jörg`` was
not found.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence

# The first argument if the others are quoted.
QUOTED = "--quoted"
_AS_THEY_ARE = "".join(character for character in map(chr, range(32, 127)) if character != "%")


def quote(argument: str) -> str:
    """An argument in ASCII; unchanged if it is ASCII already and has no percent sign.

    Names on Linux that are not UTF-8 are supported too, as decoded by :func:`os.fsdecode`.
    """
    return urllib.parse.quote(argument, safe=_AS_THEY_ARE, errors="surrogateescape")


def unquoted(arguments: Sequence[str]) -> list[str]:
    """The arguments from before :func:`quote` if they begin with :data:`QUOTED`, else unchanged."""
    if list(arguments[:1]) != [QUOTED]:
        return list(arguments)
    return [urllib.parse.unquote(argument, errors="surrogateescape") for argument in arguments[1:]]
