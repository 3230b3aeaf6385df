"""Shows events in the terminal: a progress bar with the time left, and a line for each important event."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from LASegColearnLib.errors import for_terminal


class TerminalProgress:
    """A listener that draws to standard error.

    Parameters
    ----------
    go_on
        The instruction to continue that is shown after a stop, except in a comparison.
    """

    def __init__(self, go_on: str = "Continue with --resume.") -> None:
        self._bar: tqdm | None = None
        self._stage = ""
        self._go_on = go_on
        self._comparing = False

    def __call__(self, event: dict[str, Any]) -> None:
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def _on_preparing(self, event: dict[str, Any]) -> None:
        self._advance("Checking and preparing scans", event["done"], event["of"])

    def _on_started(self, event: dict[str, Any]) -> None:
        length = (
            f"{event['minutes']:g} minutes" if event["minutes"] is not None else f"{event['iterations']} iterations"
        )
        at_once = f", {event['committee']} models at once" if event["committee"] > 1 else ""
        self._line(
            f"Training ({event['method']}) on {event['labeled']} labeled and {event['unlabeled']} unlabeled scans for "
            f"{length}{at_once}. {event['device']}."
        )

    def _on_progress(self, event: dict[str, Any]) -> None:
        of = event["of"] or event["iteration"]
        self._advance("Training", event["iteration"], of)
        if self._bar is not None:
            remaining = _left(event["seconds_left"])
            self._bar.set_postfix_str(f"{remaining}{event['phase']}, loss {event['losses'].get('total') or 0:.3f}")

    def _on_labeling(self, event: dict[str, Any]) -> None:
        # A resumed training may label scans before there is a bar.
        if self._bar is not None:
            self._bar.set_postfix_str(f"labeling unlabeled scans, {event['done']} of {event['of']}")

    def _on_waiting(self, event: dict[str, Any]) -> None:
        # There is no bar until the other models are ready.
        if self._bar is not None:
            models = ", ".join(map(str, event["models"]))
            self._bar.set_postfix_str(f"{_left(event['seconds_left'])}waiting for model {models}")

    def _on_validated(self, event: dict[str, Any]) -> None:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in event["dice"].items())
        self._line(f"Iteration {event['iteration']}: Dice on {event['cases']} validation cases: {scores}")

    def _on_predicting(self, event: dict[str, Any]) -> None:
        self._advance("Segmenting", event["done"], event["of"])

    def _on_comparing(self, event: dict[str, Any]) -> None:
        self._close()
        self._comparing = True
        if event["done"] < event["of"]:
            what = f"{event['method']}, {event['labeled']} labels, seed {event['seed']}"
            self._line(f"Training {event['done'] + 1} of {event['of']}: {what}")

    def _on_warning(self, event: dict[str, Any]) -> None:
        self._line(f"Note: {event['message']}")

    def _on_finished(self, event: dict[str, Any]) -> None:
        self._close()
        if not event["complete"] and not self._comparing:
            saved = f"what was learned is saved. {self._go_on}" if event["iteration"] else "nothing was learned yet."
            self._line(f"Stopped; {saved}".rstrip())

    def _on_stopped(self, event: dict[str, Any]) -> None:
        self._close()
        self._line("Stopped; what was learned is saved. Run the same command again to continue.")

    def _on_failed(self, event: dict[str, Any]) -> None:
        self._close()

    def _advance(self, stage: str, done: int, of: int) -> None:
        if self._bar is None or stage != self._stage:
            self._close()
            self._stage = stage
            self._bar = tqdm(
                desc=stage, total=of, file=sys.stderr, bar_format="{desc}: {percentage:3.0f}%|{bar:24}|{postfix}"
            )
        self._bar.total = of
        self._bar.n = done
        self._bar.refresh()
        if done >= of and stage != "Training":
            self._close()

    def _line(self, text: str) -> None:
        tqdm.write(for_terminal(text), file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d} left, "
