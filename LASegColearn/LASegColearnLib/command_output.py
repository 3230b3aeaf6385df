"""A command's output: a progress bar or events, failures as sentences, and their details in a log."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from LASegColearnLib.errors import for_terminal, is_the_systems_refusal, sentence_for

# A system error, followed by the name of a file.
_SYSTEM_ERROR = re.compile(r"(\[(?:Errno|WinError) -?\d+\][^:\n]*):.*")
# The beginning of an absolute path, as in PyTorch's messages.
_PATH = re.compile(r"(?:^|[\s'\"(=])(?:/|\\\\|[A-Za-z]:[\\/])\S")


class _EventPrinter:
    """Prints each event as a line of JSON, and remembers whether a failure was among them.

    Parameters
    ----------
    when_lost
        Called when the reader of the events is gone, because the process that started this one has died. Without it,
        the OSError is raised.
    """

    def __init__(self, when_lost: Callable[[], None] | None = None) -> None:
        self.told_failure = False
        self._when_lost = when_lost

    def __call__(self, record: dict[str, Any]) -> None:
        from LASegColearnLib.events import event_line

        self.told_failure |= record["event"] == "failed"
        try:
            sys.stdout.write(event_line(record))
            sys.stdout.flush()
        except OSError:
            if self._when_lost is None:
                raise
            from LASegColearnLib.stopping import write_nowhere

            self._when_lost()
            write_nowhere()


def listener(
    options: argparse.Namespace, when_lost: Callable[[], None] | None = None, go_on: str = "Continue with --resume."
) -> Callable[[dict[str, Any]], None]:
    """The listener for the given options: JSON lines (``--events``) or a progress bar.

    Parameters
    ----------
    when_lost
        Called when the reader of the events is gone. Without it, the OSError is raised.
    go_on
        The instruction to continue that is shown after a stop.
    """
    if options.events:
        options.printer = _EventPrinter(when_lost)
        return options.printer  # type: ignore[no-any-return]
    if os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0":
        # Of several processes started by torchrun only the first shows the progress.
        return lambda record: None
    from LASegColearnLib.terminal import TerminalProgress

    return TerminalProgress(go_on)


def tell_failure(options: argparse.Namespace, error: Exception) -> None:
    """Report an error as a sentence, or as an event with ``--events`` unless one has reported it already."""
    message = sentence_for(error)
    if not getattr(options, "events", False):
        sys.stderr.write(f"{for_terminal(message)}\n")
        return
    printer = getattr(options, "printer", _EventPrinter())
    if not printer.told_failure:
        printer({"event": "failed", "message": message, "cause": type(error).__name__})


def tell_unexpected(options: argparse.Namespace, error: Exception) -> int:
    """Report an unexpected error like any failure, and return the exit code.

    The traceback goes to the run's log, or to standard error if there is no run.
    """
    import traceback

    from LASegColearnLib.run_folder import RunFolder

    tell_failure(options, error)
    details = _without_scans("".join(traceback.format_exception(error)))
    run = getattr(options, "run", None)
    # The verb `predict` takes a list of runs, and writes into none of them.
    log_file = RunFolder(run).log if isinstance(run, Path) else None
    try:
        # A link in a foreign folder may lead to any file.
        if log_file is None or log_file.is_symlink():
            raise FileNotFoundError
        with log_file.open("a", encoding="utf-8") as log:
            log.write(details)
    except OSError:
        # There is no folder yet. Or a full disk or missing permission was the first error, which is reported already.
        if not is_the_systems_refusal(error):
            sys.stderr.write(for_terminal(details))
    else:
        sys.stderr.write("The details are in log.txt in the run folder.\n")
    return 1


def _without_scans(text: str) -> str:
    """The text without names of scans and other files, which may name patients, since logs are shared.

    Names may contain blanks and quotes, so only the beginning of such a line, the type of the error, is kept.
    """
    from LASegColearnLib.scan_names import SUFFIXES

    names = re.compile("|".join(re.escape(suffix) for suffix in (*SUFFIXES, ".raw", ".zraw")), re.IGNORECASE)
    kept = []
    for line in _SYSTEM_ERROR.sub(r"\1", text).splitlines():
        scan = names.search(line)
        # Indented lines are source lines of the program.
        if scan is None and (line.startswith(" ") or not _PATH.search(line)):
            kept.append(line)
            continue
        kind, separator, _ = line.partition(": ")
        is_kind = separator and not names.search(kind) and not _PATH.search(kind)
        kept.append(f"{kind if is_kind else ''}: (names {'a file' if scan is None else 'a scan'})")
    return "\n".join(kept) + "\n"
