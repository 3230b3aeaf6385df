"""A study: the folder that keeps a clinician's cases, labels, models and predictions between sessions."""

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
# Files that operating systems create in folders.
_OF_THE_SYSTEM = (".DS_Store", "desktop.ini", "Thumbs.db")
_VERSION = 1
_SECONDS_OF_PATIENCE = 0.5
_LABELED_ROLES = ("labeled", "validation")
# Figures that compare a prediction with the case's label.
_AGAINST_LABEL = ("dice", "hd95_mm", "asd_mm")


@dataclass(frozen=True)
class LabelSource:
    """Where a case's label is: a file, and the segment if the file has several."""

    file: Path
    segment: str | None = None


@dataclass(frozen=True)
class LabelOrigin:
    """Where a label came from; not who made it.

    Attributes
    ----------
    when
        When the segment became the label: local date and time to the second, ISO 8601.
    model
        Name of the run whose prediction it was made from; None if it was drawn without one.
    """

    when: str
    model: str | None


@dataclass(frozen=True)
class Suggested:
    """A case that the model of a run suggests for annotation.

    Attributes
    ----------
    place
        1 for the case to annotate first.
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
        Used in file names and logs; never a patient's name.
    name
        Name shown in the panel; stored only in the study's own file.
    scan
        The scan's file.
    role, state
        What the case is used for, and the progress of its label.
    label
        Its label, if it has one.
    figures
        Figures of the teacher's prediction, as in `figures.json`; empty if not predicted yet.
    origin
        Where its label came from, if it was made in Slicer.
    suggested
        Its place in the suggested order of annotation; None for a labeled case or if none was suggested yet.
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
    """The cases and runs of a study's folder. Every change is written immediately, completely or not at all.

    ```
    study/
      study.json      cohort.json (written for each training; the ledger of roles is next to it)
      scans/          exported from the scene; scans that already are files stay where they are
      labels/         exported from the scene; earlier ones in labels/earlier
      runs/001 ...    one run folder of the engine per training
      predictions/    one folder per case
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
        # Distinguishes this study's nodes in a scene from those of other studies. Moving the folder does not change it.
        self.identity = identity
        self._cases = cases
        self._currentRun = currentRun
        # The largest case number so far, including removed cases: a scene may still refer to them.
        self._given = given
        # The same for runs.
        self._givenRun = givenRun
        # The content of the study's file when it was last read or written here; None before the first write.
        self._written: str | None = None

    @classmethod
    def at(cls, folder: Path) -> Study:
        """Open the study in this folder, or make one in a new or empty folder.

        Raises
        ------
        InputError
            If the folder cannot be written to, or contains other files or a damaged or newer study.
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
        """Raise an error if the study was moved, or changed by another Slicer, since it was read.

        The study calls this before each of its own changes. Call it before writing other files into the study folder.

        Raises
        ------
        InputError
            If the study's file is missing, cannot be read, or has different content.
        """
        if self._written is None:
            return
        found = self._inFile()
        if found is None:
            cause = "The study's folder was not found."
            raise InputError(Problem(self.folder.name, cause, "Move it back, or choose its new location."))
        if found != self._written:
            cause = "The study was changed by another Slicer, whose changes would be lost."
            raise InputError(Problem(self.folder.name, cause, "Choose its folder again to reload it."))

    @property
    def cases(self) -> tuple[StudyCase, ...]:
        return tuple(self._cases.values())

    def case(self, caseId: str) -> StudyCase:
        """The case with this id. Raises KeyError if there is none."""
        return self._cases[caseId]

    def addScan(
        self, scan: Path, name: str | None = None, label: LabelSource | None = None, caseId: str | None = None
    ) -> StudyCase:
        """Add a scan as a new case: labeled if it has a label, otherwise unlabeled.

        Parameters
        ----------
        caseId
            The value of :attr:`nextId` before the scan was written into the study.

        Raises
        ------
        InputError
            If the scan is already in the study.
        """
        with self._saved():
            return self._put(scan, name, "unlabeled" if label is None else "labeled", label, caseId)

    def addFolder(self, folder: Path) -> list[StudyCase]:
        """Add the scans of a folder: a dataset (MSD, nnU-Net) with its roles, otherwise every scan as unlabeled.

        Raises
        ------
        InputError
            If the folder has no scan, or the dataset's description is wrong.
        """
        isDataset = (folder / "dataset.json").exists() or (folder / "imagesTr").is_dir()
        return self._addCohort(import_cohort(folder) if isDataset else cohort_from_folders([folder]))

    def addCohortFile(self, file: Path) -> list[StudyCase]:
        """Add the cases of a cohort file or a MONAI datalist. Raises :class:`InputError` with all problems."""
        return self._addCohort(import_cohort(file))

    def remove(self, caseId: str) -> None:
        """Remove a case from the study; no file is deleted."""
        with self._saved():
            del self._cases[caseId]

    def setRole(self, caseId: str, role: Role) -> None:
        """Change the role of a case.

        Raises
        ------
        InputError
            If the role is labeled or validation and the case has no label.
        """
        case = self.case(caseId)
        if role in _LABELED_ROLES and case.label is None:
            cause = f"Wanted a label for the role {role}, found none."
            raise InputError(Problem(case.id, cause, "Outline its left atrium, or choose another role."))
        self._change(caseId, role=role)

    def setLabel(self, caseId: str, label: LabelSource | None, model: str | None = None) -> None:
        """Set or remove the label of a case. Without a label, it cannot keep the role labeled or validation.

        Figures that compare its prediction with the previous label are dropped.

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
        """Store the teacher's figures; a case in the state not started becomes predicted."""
        state = "predicted" if self.case(caseId).state == "not started" else self.case(caseId).state
        self._change(caseId, figures=dict(figures), state=state)

    def addFigures(self, caseId: str, figures: dict[str, Any]) -> None:
        """Add figures to those that a prediction already has."""
        self._change(caseId, figures={**self.case(caseId).figures, **figures})

    def setSuggestions(self, run: str, reasons: Mapping[str, str]) -> None:
        """Store the order in which a run's model suggests cases, and why; replaces earlier suggestions."""
        places = {caseId: Suggested(place, run, reason) for place, (caseId, reason) in enumerate(reasons.items(), 1)}
        with self._saved():
            self._cases = {case.id: replace(case, suggested=places.get(case.id)) for case in self.cases}

    def writeCohort(self) -> Path:
        """Write the cohort file of the current cases, always to the same place, next to the ledger of roles.

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
        """The current cases in the engine's format, without those that are left out."""

        def members(role: Role) -> tuple[Case, ...]:
            return tuple(_engineCase(case) for case in self.cases if case.role == role)

        return Cohort(members("labeled"), members("unlabeled"), members("validation"))

    @property
    def runs(self) -> list[RunFolder]:
        """All runs, the oldest first."""
        folders = sorted(path for path in (self.folder / "runs").glob("*") if path.is_dir())
        return [RunFolder(path) for path in folders]

    @property
    def models(self) -> list[RunFolder]:
        """The runs that have made a model, the oldest first; the training may not have finished."""
        return [run for run in self.runs if run.last_checkpoint.exists()]

    def newRun(self) -> RunFolder:
        """The folder for the next run; it does not exist yet."""
        numbers = [int(run.path.name) for run in self.runs if run.path.name.isdecimal()]
        return RunFolder(self.folder / "runs" / f"{max([self._givenRun, *numbers]) + 1:03}")

    def noteRun(self, run: RunFolder) -> None:
        """Never use this run's number again, even if its folder is deleted: labels and predictions refer to it."""
        with self._saved():
            self._givenRun = max(self._givenRun, int(run.path.name))

    @property
    def resumableRun(self) -> RunFolder | None:
        """The last run with a checkpoint, if it did not finish."""
        models = self.models
        return models[-1] if models and not reachedEnd(models[-1]) else None

    @property
    def currentRun(self) -> RunFolder | None:
        """The run whose model predicts: the chosen one, otherwise the last that finished, otherwise the last.

        An interrupted training must not replace a finished model.
        """
        models = self.models
        chosen = [run for run in models if run.path.name == self._currentRun]
        found = chosen or [run for run in models if reachedEnd(run)] or models
        return found[-1] if found else None

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
        """Add a new case without saving; the caller saves."""
        scan = scan.absolute()
        for other in self.cases:
            if other.scan == scan:
                cause = f"Wanted each scan once, found {scan.name} in the study already."
                raise InputError(Problem(other.id, cause, "Use the existing case."))
        state: State = "not started" if label is None else "completed"
        case = StudyCase(caseId or self.nextId, name or stem(scan), scan, role, state, label)
        self._given = max(self._given, _numberOf(case.id))
        self._cases[case.id] = case
        return case

    @property
    def nextId(self) -> str:
        """The id that the next case gets."""
        # Never reuse an id: a removed case's prediction must not be taken for another's. Early studies do not store
        # the largest number.
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
        """Save the changes made in the block; if that fails, undo them."""
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
            raise InputError(
                Problem(self.folder.name, cause, "Free disk space, or choose a folder that you can write to.")
            ) from error
        except UnicodeEncodeError as error:
            raise InputError([problem for case in self.cases for problem in _unwritableNames(case)]) from error
        self._written = text

    def _inFile(self) -> str | None:
        """Content of the study's file; None if it is missing. Raises :class:`InputError` if it cannot be read."""
        try:
            return _textOf(self.folder / _FILE)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            # It is no longer text, so it differs from what was written.
            return ""

    def _plain(self, case: StudyCase) -> dict[str, Any]:
        content = asdict(case)
        content["scan"] = self._stored(case.scan)
        if case.label is not None:
            content["label"] = {"file": self._stored(case.label.file), "segment": case.label.segment}
        return content

    def _stored(self, path: Path) -> str:
        """A path as stored in the file: relative inside the study, so that the study can be moved."""
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
                        folder.name, "This study was made by a newer version of LASegColearn.", "Update the extension."
                    )
                )
            names = Counter(_fileName(entry["scan"]) for entry in content["cases"])
            cases = {entry["id"]: _case(entry, folder, names) for entry in content["cases"]}
            # Studies of the first version do not store which numbers were used.
            given, givenRun = (int(content.get(name, 0)) for name in ("given", "given_run"))
            study = cls(folder, str(content["identity"]), cases, content["current_run"], given, givenRun)
            study._written = text
            return study
        except (ValueError, KeyError, TypeError) as error:
            cause = f"The study's file {_FILE} is damaged."
            remedy = "Restore it from a backup, or make a new study and add the scans again."
            raise InputError(Problem(folder.name, cause, remedy)) from error


def _textOf(file: Path) -> str:
    """Content of a study's file.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If it is missing.
    ValueError
        If it is not text.
    InputError
        If it cannot be read at the moment.
    """
    try:
        # Only a short time, because the user is waiting at the panel.
        return patiently(partial(file.read_text, encoding="utf-8"), _SECONDS_OF_PATIENCE)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        cause = f"The study's file cannot be read now ({error.strerror})."
        remedy = "Close the program that uses it, or reconnect its disk, then try again."
        raise InputError(Problem(file.parent.name, cause, remedy)) from error


def _case(entry: dict[str, Any], folder: Path, names: Mapping[str, int]) -> StudyCase:
    if entry["role"] not in get_args(Role) or entry["state"] not in get_args(State):
        raise ValueError(f"Unknown role or state: {entry['role']}, {entry['state']}.")
    # Ids are used as folder names: an id in a foreign file must not lead outside the study.
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
    """Number in a case's id, or in the name of a file named after it; 0 if there is none."""
    digits = name.partition(".")[0].removeprefix("case_")
    return int(digits) if digits.isdecimal() else 0


def _unwritableNames(case: StudyCase) -> Iterator[Problem]:
    """Problems for names that are not valid text, which file names on Linux can be."""
    files = (case.scan,) if case.label is None else (case.scan, case.label.file)
    for name in dict.fromkeys((*(part for file in files for part in file.parts), case.name)):
        shown = name.encode("utf-8", "replace").decode("utf-8")
        if shown != name:
            cause = f"The name {shown} has invalid characters (shown as ?), so the study cannot store it."
            yield Problem(case.id, cause, "Rename the file or folder, then add it again.")


def _located(stored: str, folder: Path) -> Path:
    return Path(os.path.normpath(folder.absolute() / stored))


def _locatedScan(stored: str, folder: Path, names: Mapping[str, int]) -> Path:
    """Where a scan is; if its file is missing, as on another computer, perhaps in the study's folder scans.

    It is found there by its name, unless another case's scan has the same name or the study gives such names itself.
    """
    scan, name = _located(stored, folder), _fileName(stored)
    copied = folder.absolute() / "scans" / name
    isItsOwn = names[name] == 1 and not _numberOf(name)
    return copied if isItsOwn and os.path.exists(copied) and not os.path.exists(scan) else scan  # noqa: PTH110


def _fileName(stored: str) -> str:
    """File name in a path that was written on this computer or on Windows."""
    return PureWindowsPath(stored).name


def _engineCase(case: StudyCase) -> Case:
    label = case.label if case.role in _LABELED_ROLES else None
    return Case(case.id, case.scan, label.file if label else None, label.segment if label else None)


def reachedEnd(run: RunFolder) -> bool:
    """Whether the last events of the run say that it is complete."""
    if not run.events.exists():
        return False
    known = run.events.stat()
    return _endsComplete(run.events, known.st_mtime_ns, known.st_size)


@lru_cache(maxsize=128)
def _endsComplete(events: Path, _written: int, _size: int) -> bool:
    ends = [event for event in read_events(events) if event["event"] in ("started", "finished")]
    return bool(ends and ends[-1].get("complete"))
