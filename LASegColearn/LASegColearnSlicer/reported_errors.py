"""Errors as sentences where a person sees them, instead of tracebacks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from LASegColearnLib.errors import InputError, sentence_for


@contextmanager
def reportingErrors(say: Callable[[str], None]) -> Iterator[None]:
    """What goes wrong in this block becomes a sentence; the traceback of what was not foreseen goes to Slicer's log."""
    try:
        yield
    except InputError as error:
        say(str(error))
    except Exception as error:  # noqa: BLE001 - a clinician gets a sentence
        logging.exception("LASegColearn")
        say(sentence_for(error))
