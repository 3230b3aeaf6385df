"""Arguments that are handed on in plain ASCII come out as they were."""

from __future__ import annotations

import os

import pytest

from LASegColearnLib.quoting import QUOTED, quote, unquoted

_NOT_UTF8 = os.fsdecode(b"/data/J\xf6rg")


@pytest.mark.parametrize("argument", ["--run", "a b", "100 %", "%41", "Jörg 左", "", _NOT_UTF8])
def test_an_argument_survives_being_quoted(argument: str) -> None:
    assert quote(argument).isascii()
    assert unquoted([QUOTED, quote(argument)]) == [argument]
    assert unquoted([argument, quote("ö")]) == [argument, quote("ö")]
