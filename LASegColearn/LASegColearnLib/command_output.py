"""How a command tells of what it does: a progress bar or events, failures as sentences, and their details in a log."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from LASegColearnLib.errors import for_terminal, is_the_systems_refusal, sentence_for

# What the system says of a file, before it names it.
_SYSTEM_ERROR = re.compile(r"(\[(?:Errno|WinError) -?\d+\][^:\n]*):.*")
# The beginning of a whole path, as PyTorch puts it into its sentences.
_PATH = re.compile(r"(?:^|[\s'\"(=])(?:/|\\\\|[A-Za-z]:[\\/])\S")


class _EventPrinter:
    """Prints each event as a line of JSON, and remembers whether a failure was among them.

    Parameters
    ----------
    when_lost
        Called when nobody reads any more, since the process that started this one has died. Without it that is raised.
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
    options: argparse.Namespace, when_lost: Callable[[], None] | None = None, go_on: str = "Go on with --resume."
) -> Callable[[dict[str, Any]], None]:
    """The listener that the options ask for: JSON lines (``--events``) or a progress bar.

    Parameters
    ----------
    when_lost
        Called when nobody reads the events any more. Without it that is raised.
    go_on
        What a person who has stopped it is told to do.
    """
    if options.events:
        options.printer = _EventPrinter(when_lost)
        return options.printer  # type: ignore[no-any-return]
    if os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0":
        # One of several processes that torchrun started: the first shows the progress.
        return lambda record: None
    from LASegColearnLib.terminal import TerminalProgress

    return TerminalProgress(go_on)


def tell_failure(options: argparse.Namespace, error: Exception) -> None:
    """A sentence for the person; as an event where events are wanted and none has told it yet."""
    message = sentence_for(error)
    if not getattr(options, "events", False):
        sys.stderr.write(f"{for_terminal(message)}\n")
        return
    printer = getattr(options, "printer", _EventPrinter())
    if not printer.told_failure:
        printer({"event": "failed", "message": message, "cause": type(error).__name__})


def tell_unexpected(options: argparse.Namespace, error: Exception) -> int:
    """Tell the sentence as for any failure, and return the exit code.

    The traceback goes into the run's log, or to standard error without a run.
    """
    import traceback

    from LASegColearnLib.run_folder import RunFolder

    tell_failure(options, error)
    details = _without_scans("".join(traceback.format_exception(error)))
    run = getattr(options, "run", None)
    # The verb `predict` takes several runs, and writes into none of them.
    log_file = RunFolder(run).log if isinstance(run, Path) else None
    try:
        # A link in a folder from elsewhere may lead to any file.
        if log_file is None or log_file.is_symlink():
            raise FileNotFoundError
        with log_file.open("a", encoding="utf-8") as log:
            log.write(details)
    except OSError:
        # No folder yet; or a full disk, or a folder that may not be used, is what went wrong in the first place, and
        # has been told.
        if not is_the_systems_refusal(error):
            sys.stderr.write(for_terminal(details))
    else:
        sys.stderr.write("The details are in log.txt in the run folder.\n")
    return 1


def _without_scans(text: str) -> str:
    """Without what names a scan, or a file that the system refused, which may name a patient; the log is handed on.

    Names may have blanks and quotes in them, so of such a line only its beginning, the kind of the error, is left.
    """
    from LASegColearnLib.scan_names import SUFFIXES

    names = re.compile("|".join(re.escape(suffix) for suffix in (*SUFFIXES, ".raw", ".zraw")), re.IGNORECASE)
    kept = []
    for line in _SYSTEM_ERROR.sub(r"\1", text).splitlines():
        scan = names.search(line)
        # The lines of the program itself are indented.
        if scan is None and (line.startswith(" ") or not _PATH.search(line)):
            kept.append(line)
            continue
        kind, separator, _ = line.partition(": ")
        is_kind = separator and not names.search(kind) and not _PATH.search(kind)
        kept.append(f"{kind if is_kind else ''}: (names {'a file' if scan is None else 'a scan'})")
    return "\n".join(kept) + "\n"
