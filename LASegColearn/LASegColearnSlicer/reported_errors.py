"""Shows errors to the user as sentences, instead of tracebacks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from LASegColearnLib.errors import InputError, sentence_for


@contextmanager
def reportingErrors(say: Callable[[str], None]) -> Iterator[None]:
    """Report errors in this block as a sentence; tracebacks of unexpected errors go to Slicer's log."""
    try:
        yield
    except InputError as error:
        say(str(error))
    except Exception as error:  # noqa: BLE001 - shown to the user as a sentence
        logging.exception("LASegColearn")
        say(sentence_for(error))
