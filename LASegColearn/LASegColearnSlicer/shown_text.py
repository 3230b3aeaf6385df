"""Text from files, shown as it is."""

from __future__ import annotations

from html import escape


def asItIs(text: str) -> str:
    """A tooltip's or message box's text, in which a name that looks like HTML is shown and nothing is fetched.

    Qt takes a text for HTML when something in it looks like a tag; labels are told otherwise by their text format,
    tooltips and Slicer's message boxes cannot be.
    """
    if not any(sign in text for sign in "<&"):
        return text
    return f"<p>{escape(text)}</p>".replace("\n", "<br>")
