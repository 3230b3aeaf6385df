"""The command `lasegcolearn`, from its arguments to the exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from LASegColearnLib.arguments import build_parser
from LASegColearnLib.command_output import tell_failure, tell_unexpected
from LASegColearnLib.errors import TrainingError, UserError, for_terminal
from LASegColearnLib.quoting import unquoted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 stopped or failed, 2 wrong input."""
    _use_utf8()
    parser = build_parser()
    given = unquoted(sys.argv[1:] if arguments is None else arguments)
    # torchrun needs "--" before options that it could take for its own; not every Python version removes it.
    options = parser.parse_args(given[1:] if given[:1] == ["--"] else given)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TerminalFormatter("%(levelname)s: %(message)s"))
    # Remarks of libraries are not shown to the user, for example PyTorch's when Ctrl-C interrupts its import.
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("LASegColearnLib").setLevel(logging.INFO)
    if getattr(options, "events", False):
        _close_standard_input()
    code = _carried_out(options)
    if code and "WORLD_SIZE" in os.environ:
        from LASegColearnLib.processes import end_where_it_failed

        end_where_it_failed(code)
    return code


def _carried_out(options: argparse.Namespace) -> int:
    """Run the verb, report its errors, and return the exit code."""
    try:
        code = int(options.verb(options))
        # Flush here, where an error can still be reported, not when the interpreter exits.
        sys.stdout.flush()
        return code
    except UserError as error:
        tell_failure(options, error)
        return 1 if isinstance(error, TrainingError) else 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        return 1
    except SystemExit as ended:
        # Raised in the other processes of a group after the first one has reported the reason.
        return ended.code if isinstance(ended.code, int) else 1
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. Later output, also of the interpreter's exit, is discarded.
        from LASegColearnLib.stopping import write_nowhere

        write_nowhere((1,))
        return 1
    except Exception as error:  # noqa: BLE001 - the user gets a sentence, the log gets the details
        return tell_unexpected(options, error)


class _TerminalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return for_terminal(super().format(record))


def _use_utf8() -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _close_standard_input() -> None:
    """Close standard input: in a child process of Slicer a read must end at once instead of waiting for ever."""
    if sys.stdin is not None and not sys.stdin.closed:
        sys.stdin.close()
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 - stays open as long as the process
