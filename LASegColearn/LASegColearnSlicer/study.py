"""A study: the folder in which a clinician's cases, labels, models and predictions are kept from week to week."""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, get_args

from LASegColearnLib.cohort import Case, Cohort, id_problems, save_cohort
from LASegColearnLib.cohort_import import cohort_from_folders, import_cohort
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.events import read_events
from LASegColearnLib.run_folder import RunFolder, json_text, patiently, write_text_atomically
from LASegColearnLib.scan_names import stem

Role = Literal["labeled", "unlabeled", "validation", "left out"]
# The first four are Slicer's own segment states.
State = Literal["not started", "in progress", "completed", "flagged", "predicted"]

_FILE = "study.json"
# Files that systems put into folders by themselves.
_OF_THE_SYSTEM = (".DS_Store", "desktop.ini", "Thumbs.db")
_VERSION = 1
_SECONDS_OF_PATIENCE = 0.5
_LABELED_ROLES = ("labeled", "validation")
# Figures of a prediction that are set against the case's label.
_AGAINST_LABEL = ("dice", "hd95_mm", "asd_mm")


@dataclass(frozen=True)
class LabelSource:
    """Where a case's label is: a file, and the segment in it where it holds several."""

    file: Path
    segment: str | None = None


@dataclass(frozen=True)
class LabelOrigin:
    """Where a label came from; not from whom.

    Attributes
    ----------
    when
        Date and time it was made a label, local and to the second, ISO 8601.
    model
        Name of the run whose prediction it was made from, None where it was drawn without one.
    """

    when: str
    model: str | None


@dataclass(frozen=True)
class Suggested:
    """What the model of a run asks to be annotated.

    Attributes
    ----------
    place
        1 for the case that is asked for first.
    run
        Name of the run.
    reason
        A sentence.
    """

    place: int
    run: str
    reason: str


@dataclass(frozen=True)
class StudyCase:
    """A case of a study.

    Attributes
    ----------
    id
        Names its files and stands in logs; never a patient's name.
    name
        What the panel shows; kept in the study's own file alone.
    scan
        The scan's file.
    role, state
        What it is used for, and how far its label is.
    label
        Its label, if it has one.
    figures
        The teacher's figures of it, as `figures.json` holds them; empty before it was predicted.
    origin
        Where its label came from, if it was made one in Slicer.
    suggested
        Its place in the order of annotation; None for a labeled case, or before anyone asked for the order.
    """

    id: str
    name: str
    scan: Path
    role: Role
    state: State = "not started"
    label: LabelSource | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    origin: LabelOrigin | None = None
    suggested: Suggested | None = None


class Study:
    """The cases and runs of a study's folder; every change is written at once, whole or not at all.

    ```
    study/
      study.json      cohort.json (written for each training, the roles' ledger beside it)
      scans/          exported from the scene; scans that are files already stay where they are
      labels/         exported from the scene; earlier ones in labels/earlier
      runs/001 ...    a run folder of the engine for each training
      predictions/    one folder a case
    ```

    Use :meth:`at`, which opens a study or makes a new one.
    """

    def __init__(
        self,
        folder: Path,
        identity: str,
        cases: dict[str, StudyCase],
        currentRun: str | None,
        given: int = 0,
        givenRun: int = 0,
    ) -> None:
        self.folder = folder
        # Tells this study's nodes in a scene from those of another; stays the same when the folder is moved.
        self.identity = identity
        self._cases = cases
        self._currentRun = currentRun
        # The largest number that a case was given, also of those that were removed: a scene may still name them.
        self._given = given
        # The same of the runs.
        self._givenRun = givenRun
        # What the study's file holds as far as this study knows; None before it was written.
        self._written: str | None = None

    @classmethod
    def at(cls, folder: Path) -> Study:
        """Open the study in this folder, or make one in a new or empty folder.

        Raises
        ------
        InputError
            If the folder cannot be written to, holds other things, or a study that is damaged or of a newer version.
        """
        file = folder / _FILE
        if file.exists():
            return cls._opened(folder, file)
        if folder.exists() and (not folder.is_dir() or any(one.name not in _OF_THE_SYSTEM for one in folder.iterdir())):
            raise InputError(
                Problem(folder.name, "Wanted a study or an empty folder, found other files.", "Choose a new folder.")
            )
        study = cls(folder, uuid.uuid4().hex, {}, None)
        study._save()
        return study

    def checkUnchanged(self) -> None:
        """Refuse to go on with a study that was moved, or changed by another Slicer, since it was read.

        The study calls this before each change of its own. Call it before writing other files into the study folder.

        Raises
        ------
        InputError
            If the study's file is not there any more, cannot be read now, or holds something else.
        """
        if self._written is None:
            return
        found = self._inFile()
        if found is None:
            cause = "The study's folder was not found."
            raise InputError(Problem(self.folder.name, cause, "Move it back, or choose its new location."))
        if found != self._written:
            cause = "The study was changed by another Slicer meanwhile, whose changes would be lost."
            raise InputError(Problem(self.folder.name, cause, "Choose its folder again to read it anew."))

    @property
    def cases(self) -> tuple[StudyCase, ...]:
        return tuple(self._cases.values())

    def case(self, caseId: str) -> StudyCase:
        """The case of this id. Raises KeyError if there is none."""
        return self._cases[caseId]

    def addScan(
        self, scan: Path, name: str | None = None, label: LabelSource | None = None, caseId: str | None = None
    ) -> StudyCase:
        """Add a scan under an id of its own; one with a label is labeled, others are not.

        Parameters
        ----------
        caseId
            What :attr:`nextId` was before the scan was written into the study.

        Raises
        ------
        InputError
            If the scan is in the study already.
        """
        with self._saved():
            return self._put(scan, name, "unlabeled" if label is None else "labeled", label, caseId)

    def addFolder(self, folder: Path) -> list[StudyCase]:
        """Add the scans of a folder: as a dataset where it is one (MSD, nnU-Net), else every scan in it, unlabeled.

        Raises
        ------
        InputError
            If there is no scan in it, or the dataset's description is wrong.
        """
        isDataset = (folder / "dataset.json").exists() or (folder / "imagesTr").is_dir()
        return self._addCohort(import_cohort(folder) if isDataset else cohort_from_folders([folder]))

    def addCohortFile(self, file: Path) -> list[StudyCase]:
        """Add the cases of a cohort file or a MONAI datalist. Raises :class:`InputError` with all that is wrong."""
        return self._addCohort(import_cohort(file))

    def remove(self, caseId: str) -> None:
        """Take a case out of the study; no file is deleted."""
        with self._saved():
            del self._cases[caseId]

    def setRole(self, caseId: str, role: Role) -> None:
        """Use a case for something else.

        Raises
        ------
        InputError
            If it would be labeled or for validation without a label.
        """
        case = self.case(caseId)
        if role in _LABELED_ROLES and case.label is None:
            cause = f"Wanted a label for the role {role}, found none."
            raise InputError(Problem(case.id, cause, "Outline the left atrium in it, or choose another role."))
        self._change(caseId, role=role)

    def setLabel(self, caseId: str, label: LabelSource | None, model: str | None = None) -> None:
        """Give a case a label, or take it away; without one it cannot stay labeled or for validation.

        Figures that set its prediction against the label before are dropped.

        Parameters
        ----------
        model
            Name of the run whose prediction the label was made from.
        """
        role = self.case(caseId).role
        figures = {name: value for name, value in self.case(caseId).figures.items() if name not in _AGAINST_LABEL}
        if label is None:
            role = "unlabeled" if role in _LABELED_ROLES else role
            self._change(caseId, label=None, role=role, origin=None, figures=figures)
        else:
            now = datetime.now().isoformat(timespec="seconds")
            self._change(caseId, label=label, origin=LabelOrigin(now, model), figures=figures)

    def setState(self, caseId: str, state: State) -> None:
        self._change(caseId, state=state)

    def setFigures(self, caseId: str, figures: dict[str, Any]) -> None:
        """Keep the teacher's figures; a case that nobody has worked on is then predicted."""
        state = "predicted" if self.case(caseId).state == "not started" else self.case(caseId).state
        self._change(caseId, figures=dict(figures), state=state)

    def addFigures(self, caseId: str, figures: dict[str, Any]) -> None:
        """Keep more figures of a prediction, beside those that are there."""
        self._change(caseId, figures={**self.case(caseId).figures, **figures})

    def setSuggestions(self, run: str, reasons: Mapping[str, str]) -> None:
        """Keep in which order a run's model asks for cases, and why; earlier suggestions are forgotten."""
        places = {caseId: Suggested(place, run, reason) for place, (caseId, reason) in enumerate(reasons.items(), 1)}
        with self._saved():
            self._cases = {case.id: replace(case, suggested=places.get(case.id)) for case in self.cases}

    def writeCohort(self) -> Path:
        """Write the cohort file of the cases as they are now; always in the same place, beside the roles' ledger.

        Raises
        ------
        InputError
            If the study was moved, or changed by another Slicer.
        """
        self.checkUnchanged()
        path = self.folder / "cohort.json"
        save_cohort(self.cohort, path)
        return path

    @property
    def cohort(self) -> Cohort:
        """The cases as they are now, as the engine takes them; without those that are left out."""

        def members(role: Role) -> tuple[Case, ...]:
            return tuple(_engineCase(case) for case in self.cases if case.role == role)

        return Cohort(members("labeled"), members("unlabeled"), members("validation"))

    @property
    def runs(self) -> list[RunFolder]:
        """All runs, the oldest first."""
        folders = sorted(path for path in (self.folder / "runs").glob("*") if path.is_dir())
        return [RunFolder(path) for path in folders]

    def newRun(self) -> RunFolder:
        """A folder for the next run, which does not exist yet."""
        numbers = [int(run.path.name) for run in self.runs if run.path.name.isdecimal()]
        return RunFolder(self.folder / "runs" / f"{max([self._givenRun, *numbers]) + 1:03}")

    def noteRun(self, run: RunFolder) -> None:
        """Never give this run's number again, not even when its folder is deleted: labels and predictions name it."""
        with self._saved():
            self._givenRun = max(self._givenRun, int(run.path.name))

    @property
    def resumableRun(self) -> RunFolder | None:
        """The last run with a checkpoint, if it did not reach its end."""
        runs = self._usable
        return runs[-1] if runs and not reachedEnd(runs[-1]) else None

    @property
    def currentRun(self) -> RunFolder | None:
        """The run whose model predicts: the one that was chosen, else the last that reached its end, else the last.

        A training that was broken off must not take the place of a model that is done.
        """
        usable = self._usable
        chosen = [run for run in usable if run.path.name == self._currentRun]
        found = chosen or [run for run in usable if reachedEnd(run)] or usable
        return found[-1] if found else None

    @property
    def _usable(self) -> list[RunFolder]:
        return [run for run in self.runs if run.last_checkpoint.exists()]

    def chooseRun(self, run: RunFolder | None) -> None:
        """Make the model of a run the current one; None: the last."""
        with self._saved():
            self._currentRun = run.path.name if run is not None else None

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions"

    def _addCohort(self, cohort: Cohort) -> list[StudyCase]:
        roles: dict[Role, tuple[Case, ...]] = {
            "labeled": cohort.labeled,
            "unlabeled": cohort.unlabeled,
            "validation": cohort.validation,
        }
        present = {case.scan for case in self.cases}
        added = []
        with self._saved():
            for role, members in roles.items():
                for member in members:
                    if member.image.absolute() not in present:
                        label = None if member.label is None else LabelSource(member.label.absolute(), member.segment)
                        added.append(self._put(member.image, member.id, role, label))
        return added

    def _put(
        self, scan: Path, name: str | None, role: Role, label: LabelSource | None, caseId: str | None = None
    ) -> StudyCase:
        """A new case, for the caller to save."""
        scan = scan.absolute()
        for other in self.cases:
            if other.scan == scan:
                cause = f"Wanted each scan once, found it in the study already: {scan.name}."
                raise InputError(Problem(other.id, cause, "Use the case that is there."))
        state: State = "not started" if label is None else "completed"
        case = StudyCase(caseId or self.nextId, name or stem(scan), scan, role, state, label)
        self._given = max(self._given, _numberOf(case.id))
        self._cases[case.id] = case
        return case

    @property
    def nextId(self) -> str:
        """The id that the next case gets."""
        # Never one that was given before: what was predicted for a removed case must not be taken for another's. Early
        # studies do not keep the largest one.
        files = (path.name for folder in ("scans", "labels", "predictions") for path in self._files(folder))
        numbers = [_numberOf(name) for name in (*self._cases, *files)]
        return f"case_{max([self._given, *numbers]) + 1:03}"

    def _files(self, folder: str) -> Iterator[Path]:
        return (self.folder / folder).glob("case_*")

    def _change(self, caseId: str, **changes: Any) -> None:
        changed = replace(self.case(caseId), **changes)
        with self._saved():
            self._cases[caseId] = changed

    @contextmanager
    def _saved(self) -> Iterator[None]:
        """Save what is changed within; if that fails nothing has changed."""
        before = dict(self._cases), self._currentRun, self._given, self._givenRun
        try:
            yield
            self._save()
        except Exception:
            self._cases, self._currentRun, self._given, self._givenRun = before
            raise

    def _save(self) -> None:
        self.checkUnchanged()
        content = {
            "version": _VERSION,
            "identity": self.identity,
            "current_run": self._currentRun,
            "given": self._given,
            "given_run": self._givenRun,
            "cases": [self._plain(case) for case in self.cases],
        }
        text = json_text(content)
        try:
            write_text_atomically(self.folder / _FILE, text)
        except OSError as error:
            cause = f"The study's folder cannot be written to ({error.strerror})."
            raise InputError(Problem(self.folder.name, cause, "Make room, or choose a folder of your own.")) from error
        except UnicodeEncodeError as error:
            raise InputError([problem for case in self.cases for problem in _unwritableNames(case)]) from error
        self._written = text

    def _inFile(self) -> str | None:
        """What the study's file holds; None if it is not there. Raises :class:`InputError` if it cannot be read now."""
        try:
            return _textOf(self.folder / _FILE)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            # No text any more, so not what was written.
            return ""

    def _plain(self, case: StudyCase) -> dict[str, Any]:
        content = asdict(case)
        content["scan"] = self._stored(case.scan)
        if case.label is not None:
            content["label"] = {"file": self._stored(case.label.file), "segment": case.label.segment}
        return content

    def _stored(self, path: Path) -> str:
        """Relative for what lies in the study, so that it can be moved."""
        if path.is_relative_to(self.folder.absolute()):
            return path.relative_to(self.folder.absolute()).as_posix()
        return str(path)

    @classmethod
    def _opened(cls, folder: Path, file: Path) -> Study:
        try:
            text = _textOf(file)
            content = json.loads(text)
            if content["version"] > _VERSION:
                raise InputError(
                    Problem(
                        folder.name, "A newer version of LASegColearn has made this study.", "Update the extension."
                    )
                )
            names = Counter(_fileName(entry["scan"]) for entry in content["cases"])
            cases = {entry["id"]: _case(entry, folder, names) for entry in content["cases"]}
            # Studies of the first version do not say which numbers were given.
            given, givenRun = (int(content.get(name, 0)) for name in ("given", "given_run"))
            study = cls(folder, str(content["identity"]), cases, content["current_run"], given, givenRun)
            study._written = text
            return study
        except (ValueError, KeyError, TypeError) as error:
            cause = f"The study's file {_FILE} is damaged."
            remedy = "Restore it from a backup, or make a new study and add the scans again."
            raise InputError(Problem(folder.name, cause, remedy)) from error


def _textOf(file: Path) -> str:
    """What a study's file holds.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If it is not there.
    ValueError
        If it is no text.
    InputError
        If it cannot be read now.
    """
    try:
        # Who waits is in front of the panel.
        return patiently(partial(file.read_text, encoding="utf-8"), _SECONDS_OF_PATIENCE)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        cause = f"The study's file cannot be read now ({error.strerror})."
        remedy = "Close the program that holds it, or connect its disk again, then try once more."
        raise InputError(Problem(file.parent.name, cause, remedy)) from error


def _case(entry: dict[str, Any], folder: Path, names: Mapping[str, int]) -> StudyCase:
    if entry["role"] not in get_args(Role) or entry["state"] not in get_args(State):
        raise ValueError(f"Unknown role or state: {entry['role']}, {entry['state']}.")
    # An id names folders: one from elsewhere must not lead out of the study.
    if any(id_problems([entry["id"]], "")):
        raise ValueError("An id that cannot be a folder's name.")
    label = entry["label"]
    return StudyCase(
        id=entry["id"],
        name=entry["name"],
        scan=_locatedScan(entry["scan"], folder, names),
        role=entry["role"],
        state=entry["state"],
        label=None if label is None else LabelSource(_located(label["file"], folder), label["segment"]),
        figures=dict(entry["figures"]),
        # Studies of the first version have neither.
        origin=None if entry.get("origin") is None else LabelOrigin(**entry["origin"]),
        suggested=None if entry.get("suggested") is None else Suggested(**entry["suggested"]),
    )


def _numberOf(name: str) -> int:
    """Of a case's id, or of a file that is named after it; 0 where there is none."""
    digits = name.partition(".")[0].removeprefix("case_")
    return int(digits) if digits.isdecimal() else 0


def _unwritableNames(case: StudyCase) -> Iterator[Problem]:
    """What is wrong with names that are not text, as a file's can be on Linux."""
    files = (case.scan,) if case.label is None else (case.scan, case.label.file)
    for name in dict.fromkeys((*(part for file in files for part in file.parts), case.name)):
        shown = name.encode("utf-8", "replace").decode("utf-8")
        if shown != name:
            cause = f"The name {shown} has characters that are no text (here ?), so the study cannot keep it."
            yield Problem(case.id, cause, "Rename the file or folder, then add it again.")


def _located(stored: str, folder: Path) -> Path:
    return Path(os.path.normpath(folder.absolute() / stored))


def _locatedScan(stored: str, folder: Path, names: Mapping[str, int]) -> Path:
    """Where a scan is: on another computer, or another disk, perhaps in the study's folder of scans.

    There by its name, which must be that of no other case's scan, nor such as the study gives to its own files.
    """
    scan, name = _located(stored, folder), _fileName(stored)
    copied = folder.absolute() / "scans" / name
    isItsOwn = names[name] == 1 and not _numberOf(name)
    return copied if isItsOwn and os.path.exists(copied) and not os.path.exists(scan) else scan  # noqa: PTH110


def _fileName(stored: str) -> str:
    """The name of a file by its path as this computer, or one with Windows, has written it."""
    return PureWindowsPath(stored).name


def _engineCase(case: StudyCase) -> Case:
    label = case.label if case.role in _LABELED_ROLES else None
    return Case(case.id, case.scan, label.file if label else None, label.segment if label else None)


def reachedEnd(run: RunFolder) -> bool:
    """Whether the run's last word was that it is complete."""
    if not run.events.exists():
        return False
    known = run.events.stat()
    return _endsComplete(run.events, known.st_mtime_ns, known.st_size)


@lru_cache(maxsize=128)
def _endsComplete(events: Path, _written: int, _size: int) -> bool:
    ends = [event for event in read_events(events) if event["event"] in ("started", "finished")]
    return bool(ends and ends[-1].get("complete"))
