"""The roles of scans over all rounds of a study: a validation scan must never be trained on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.run_folder import write_json_atomically


@dataclass
class RoleLedger:
    """The scans, by content hash, that were trained on and validated on.

    A score on scans that an earlier round was trained on is meaningless, so a validation scan must never be trained on,
    nor the other way round.

    Attributes
    ----------
    trained, validated
        Content hashes.
    path
        File that :meth:`record` writes to; None for a ledger in a checkpoint.
    """

    trained: set[str] = field(default_factory=set)
    validated: set[str] = field(default_factory=set)
    path: Path | None = None

    @classmethod
    def load(cls, path: Path) -> RoleLedger:
        """Read a study's ledger; returns an empty one if there is no file yet.

        Raises
        ------
        InputError
            If the file is damaged.
        """
        if not path.exists():
            return cls(path=path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(set(content["trained"]), set(content["validated"]), path)
        except (ValueError, KeyError, TypeError):
            raise InputError(
                Problem(
                    path.name,
                    "Wanted the record of which scans were trained on, found a damaged file.",
                    "Restore it from a backup; without it, a validation scan could be trained on unnoticed.",
                )
            ) from None

    def conflicts(self, *, trained: Mapping[str, str], validated: Mapping[str, str]) -> list[Problem]:
        """Problems of these roles (content hash by case id), given those of earlier rounds."""
        problems = [
            Problem(
                case,
                "This scan was for validation in an earlier round, and would be trained on now.",
                "Keep it for validation, or start again, from a model that never saw it, with the cohort file in "
                "another folder (in Slicer: in a new study).",
            )
            for case, content in trained.items()
            if content in self.validated
        ]
        problems += [
            Problem(
                case,
                "This scan was trained on in an earlier round, and is for validation now.",
                "Choose another scan for validation, or start again, without --init, with the cohort file in another "
                "folder (in Slicer: in a new study).",
            )
            for case, content in validated.items()
            if content in self.trained
        ]
        return problems

    def record(self, *, trained: Iterable[str], validated: Iterable[str]) -> None:
        """Add a round's scans and write the file. Raises OSError if it cannot be written."""
        self.trained |= set(trained)
        self.validated |= set(validated)
        if self.path is not None:
            # Another run of the study may have written to the file since.
            present = RoleLedger.load(self.path)
            self.trained |= present.trained
            self.validated |= present.validated
            content = {"trained": sorted(self.trained), "validated": sorted(self.validated)}
            write_json_atomically(self.path, content)
