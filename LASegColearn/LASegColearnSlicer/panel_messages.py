"""One line of text for the user in each section of the panel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

from LASegColearnSlicer.reported_errors import reportingErrors

Place = Literal["inputs", "train", "predict", "correct", "rounds"]


class PanelMessages:
    """Shows messages and errors next to the widgets concerned.

    Parameters
    ----------
    ui
        The panel's widgets; each section's label is named after it, such as ``trainMessageLabel``.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        for place in get_args(Place):
            self.say(place, "")

    def say(self, place: Place, text: str) -> None:
        """Show a text instead of the previous one; an empty one hides the label."""
        label = getattr(self._ui, f"{place}MessageLabel")
        label.text = text
        label.setVisible(bool(text))

    @contextmanager
    def tellingErrors(self, place: Place) -> Iterator[None]:
        """Report errors in this block as a sentence."""
        with reportingErrors(lambda text: self.say(place, text)):
            # Clear the message before, not after, so that messages from within the block stay.
            self.say(place, "")
            yield
