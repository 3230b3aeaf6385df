"""Shows text from files literally."""

from __future__ import annotations

from html import escape


def asItIs(text: str) -> str:
    """Escape a text for a tooltip or message box, so that names that look like HTML are shown and fetch nothing.

    Qt takes a text for HTML if it contains something like a tag. Labels can be set to plain text, tooltips and Slicer's
    message boxes cannot.
    """
    if not any(sign in text for sign in "<&"):
        return text
    return f"<p>{escape(text)}</p>".replace("\n", "<br>")
