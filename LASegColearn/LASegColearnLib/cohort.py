"""A cohort: which scans are labeled, which are not, and which are kept for validation."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from LASegColearnLib.errors import InputError, Problem, not_readable
from LASegColearnLib.run_folder import write_json_atomically
from LASegColearnLib.scan_names import SUFFIXES, stem

# Our keys, and those of MONAI and MSD datalists, whose test scans have no labels.
ROLE_OF_KEY = {
    "labeled": "labeled",
    "unlabeled": "unlabeled",
    "validation": "validation",
    "training": "labeled",
    "test": "unlabeled",
    "testing": "unlabeled",
}
ROLES = ("labeled", "unlabeled", "validation")
# File names may have 255 letters, paths on Windows 260 by default. A number may be added to an id from a file name.
_LONGEST_ID = 100
_LONGEST_NAME = 90
_SAFE_ID = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_-])?")
# Windows allows no files with these names, with or without a suffix.
_WINDOWS_DEVICES = ("con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)))
_NAMES_THAT_SAY_NOTHING = ("image", "scan", "lgemri", "mri")


@dataclass(frozen=True)
class Case:
    """One scan.

    Attributes
    ----------
    id
        Name of the case in events, reports and folders.
    image
        The scan's file.
    label
        The label's file; None for an unlabeled case.
    segment
        Name of the segment, or value in a label map, if the label has several.
    """

    id: str
    image: Path
    label: Path | None = None
    segment: str | None = None


@dataclass(frozen=True)
class Cohort:
    """The cases by role."""

    labeled: tuple[Case, ...]
    unlabeled: tuple[Case, ...]
    validation: tuple[Case, ...] = ()

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases, the labeled ones first."""
        return (*self.labeled, *self.unlabeled, *self.validation)

    def take_labeled(self, count: int) -> Cohort:
        """Keep the first ``count`` labeled cases; the others become unlabeled, without their labels.

        Raises
        ------
        InputError
            If there are fewer.
        """
        if not 1 <= count <= len(self.labeled):
            raise InputError(
                Problem(
                    "--labeled",
                    f"Wanted between 1 and {len(self.labeled)} of the cohort's labeled cases, found {count}.",
                    "Give such a number.",
                )
            )
        rest = tuple(replace(case, label=None, segment=None) for case in self.labeled[count:])
        return replace(self, labeled=self.labeled[:count], unlabeled=(*rest, *self.unlabeled))


def load_cohort(path: Path) -> Cohort:
    """Read a cohort file, or a MONAI or MSD datalist (its ``training`` is labeled, its ``test`` unlabeled).

    Paths in the file are relative to its folder. A label of an unlabeled case is ignored.

    Raises
    ------
    InputError
        With all problems of the file's structure or its ids, which become names of folders.
    """
    cohort = cohort_from_json(read_json(path), path.parent, path.name)
    problems = list(id_problems([case.id for case in cohort.cases], "Give it another id in the cohort file."))
    if problems:
        raise InputError(problems)
    return cohort


def cohort_from_json(content: Any, folder: Path, name: str, segment: str | None = None) -> Cohort:
    """Build a cohort from the content of a datalist.

    Parameters
    ----------
    content
        The parsed JSON.
    folder
        Folder that its paths are relative to.
    name
        The file's name, for messages.
    segment
        Segment for labels that do not name one.
    """
    if not isinstance(content, dict) or not any(key in content for key in ROLE_OF_KEY):
        raise InputError(
            Problem(
                name,
                "Wanted an object with the lists labeled, unlabeled and validation (or training and test), found "
                f"{_described(content)}.",
                "Write one with `lasegcolearn cohort`.",
            )
        )
    problems = [
        Problem(name, f"Wanted one of {', '.join(ROLE_OF_KEY)}, found the list {key}.", "Give it one of these names.")
        for key, value in content.items()
        if key not in ROLE_OF_KEY and _lists_scans(value)
    ]
    found: list[tuple[str, Case]] = []
    for key, role in ROLE_OF_KEY.items():
        entries = content.get(key, [])
        if not isinstance(entries, list):
            problems.append(Problem(name, f"Wanted a list as {key}, found {_described(entries)}.", "Correct the file."))
            continue
        for number, entry in enumerate(entries):
            case = _case(entry, folder, f"{key}[{number}]", role, segment, problems)
            if case is not None:
                found.append((role, case))
    if problems:
        raise InputError(problems)
    ids = unique_ids([case.id or case.image for _, case in found])
    members = [(role, replace(case, id=case_id)) for (role, case), case_id in zip(found, ids, strict=True)]
    return Cohort(
        labeled=tuple(case for role, case in members if role == "labeled"),
        unlabeled=tuple(case for role, case in members if role == "unlabeled"),
        validation=tuple(case for role, case in members if role == "validation"),
    )


def save_cohort(cohort: Cohort, path: Path) -> None:
    """Write a cohort file; paths become relative to its folder where possible.

    Raises
    ------
    InputError
        Naming the cases whose file names cannot be written as UTF-8.
    """
    problems = [
        Problem(
            case.id, "The name of its scan or label, or of a folder, has letters of another encoding.", "Rename it."
        )
        for case in cohort.cases
        if not all(_is_path(str(file)) for file in (case.image, case.label) if file is not None)
    ]
    if problems:
        raise InputError(problems)
    write_json_atomically(
        path,
        {
            "labeled": _entries(cohort.labeled, path.parent),
            "unlabeled": _entries(cohort.unlabeled, path.parent),
            "validation": _entries(cohort.validation, path.parent),
        },
    )


def save_monai_datalist(cohort: Cohort, path: Path) -> None:
    """Write the cohort as a MONAI datalist: labeled cases as ``training``, unlabeled ones as ``test``.

    Ids are kept beside the images, where MONAI ignores them.

    Raises
    ------
    InputError
        If a label is one of several in its file, which a datalist cannot express.
    """
    problems = [
        Problem(
            case.id,
            f"Its label is {case.segment!r} of several in the file, and a MONAI datalist cannot say which.",
            "Export that label to a file of its own.",
        )
        for case in cohort.cases
        if case.segment is not None
    ]
    if problems:
        raise InputError(problems)
    write_json_atomically(
        path,
        {
            "training": _entries(cohort.labeled, path.parent),
            "validation": _entries(cohort.validation, path.parent),
            "test": _entries(cohort.unlabeled, path.parent),
        },
    )


def real_path(path: Path) -> str:
    """One canonical path for a file or folder, whatever links and upper or lower case lead to it."""
    return os.path.normcase(os.path.realpath(path))


def read_json(path: Path) -> Any:
    """The content of a cohort file or datalist; raises :class:`InputError` if it is missing or not JSON."""
    try:
        if not path.is_file():
            raise InputError(
                Problem(path.name, "There is no such cohort file.", "Write one with `lasegcolearn cohort`.")
            )
        return json.loads(path.read_text(encoding="utf-8-sig"))
    # Also raised for numbers of thousands of digits and for very deeply nested lists.
    except (ValueError, RecursionError) as error:
        place = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(Problem(path.name, f"It is not valid JSON{place}.", "Correct or rewrite it.")) from None
    except OSError:
        raise not_readable(path.name) from None


def _lists_scans(value: Any) -> bool:
    """Whether it looks like a list of cases, not like another list in a dataset's description."""
    return isinstance(value, list) and any(
        "image" in entry if isinstance(entry, dict) else isinstance(entry, str) and entry.lower().endswith(SUFFIXES)
        for entry in value
    )


def _case(entry: Any, folder: Path, place: str, role: str, segment: str | None, problems: list[Problem]) -> Case | None:
    """One entry as a case, with an empty id if it has none; its problems are added to ``problems``."""
    if isinstance(entry, str):
        entry = {"image": entry}
    image = entry.get("image") if isinstance(entry, dict) else None
    if not isinstance(image, str) or not image or not _is_path(image):
        problems.append(
            Problem(place, f"Wanted the path of one image, found {_described(image or entry)}.", "Correct the file.")
        )
        return None
    case_id = entry.get("id", "")
    if not isinstance(case_id, (str, int)):
        problems.append(Problem(place, f"Wanted text as id, found {_described(case_id)}.", "Correct the file."))
        return None
    if role == "unlabeled":
        return Case(str(case_id), folder / image)
    label, named = entry.get("label"), entry.get("segment", segment)
    if not isinstance(label, str) or not label or not _is_path(label):
        problems.append(
            Problem(
                place,
                f"Wanted the path of a label, found {_described(label)}.",
                "Give it, or list the case as unlabeled.",
            )
        )
        return None
    if named is not None and not isinstance(named, (str, int)):
        problems.append(
            Problem(place, f"Wanted a name or value as segment, found {_described(named)}.", "Correct the file.")
        )
        return None
    return Case(str(case_id), folder / image, folder / label, None if named is None else str(named))


def _is_path(text: str) -> bool:
    """Whether the text is a possible file name and can be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def case_id_from(image: Path) -> str:
    """An id for a scan: its file name without nnU-Net's channel number, or its folder's name for files like `image`."""
    name = stem(image)
    if name.lower() in _NAMES_THAT_SAY_NOTHING and image.parent.name:
        name = image.parent.name
    return _safe(name.removesuffix("_0000"))


def unique_ids(given: Sequence[str | Path]) -> list[str]:
    """Unique ids for all scans; a path in ``given`` stands for a scan without an id. Case differences do not count.

    If scans in different folders have the same name (``a/1.nrrd``, ``b/1.nrrd``), the folder's name is put before it;
    if that is not unique either, a number is appended. Given ids are not changed.
    """
    names = [entry if isinstance(entry, str) else case_id_from(entry) for entry in given]
    folded = [name.lower() for name in names]
    taken = {entry.lower() for entry in given if isinstance(entry, str)}
    ids = []
    for entry, name in zip(given, names, strict=True):
        if isinstance(entry, Path):
            if folded.count(name.lower()) > 1:
                name = _safe(f"{entry.parent.name}_{name}")
            base, number = name, 2
            while name.lower() in taken:
                name, number = f"{base}_{number}", number + 1
            taken.add(name.lower())
        ids.append(name)
    return ids


def id_problems(ids: Iterable[str], remedy: str) -> Iterator[Problem]:
    """Problems of ids that cannot be folder names, or that occur twice."""
    seen: set[str] = set()
    for case_id in ids:
        if not _SAFE_ID.fullmatch(case_id):
            yield Problem(
                case_id,
                "Wanted an id of letters, digits, '.', '_' and '-', with no '.' or '-' first and no '.' last.",
                remedy,
            )
        elif len(case_id) > _LONGEST_ID:
            shown = f"{case_id[:20]}…"
            cause = (
                f"Wanted an id of at most {_LONGEST_ID} letters, since files are named after it; found {len(case_id)}."
            )
            yield Problem(shown, cause, remedy)
        elif _is_windows_device(case_id):
            yield Problem(case_id, "Windows allows no folder of this name, and runs may be moved to it.", remedy)
        if case_id.lower() in seen:
            yield Problem(case_id, "Two cases have this id (upper and lower case count as one).", remedy)
        seen.add(case_id.lower())


def _safe(name: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".-")[:_LONGEST_NAME].rstrip(".") or "case"
    return f"case_{safe}" if _is_windows_device(safe) else safe


def _is_windows_device(name: str) -> bool:
    return name.partition(".")[0].lower() in _WINDOWS_DEVICES


def _entries(cases: Sequence[Case], folder: Path) -> list[dict[str, str]]:
    entries = []
    for case in cases:
        entry = {"id": case.id, "image": _relative(case.image, folder)}
        if case.label is not None:
            entry["label"] = _relative(case.label, folder)
        if case.segment is not None:
            entry["segment"] = case.segment
        entries.append(entry)
    return entries


def _relative(path: Path, folder: Path) -> str:
    """The path relative to the folder if that leads to the file, else the absolute path."""
    # Links are resolved in the parent only: the file itself may be a link to one with another name.
    path = path.parent.resolve() / path.name
    try:
        relative = os.path.relpath(path, folder.resolve())
    except ValueError:
        return path.as_posix()
    # Windows applies .. to the name of a link or mapped drive, not to its target.
    as_windows_reads = Path(os.path.normpath(folder.absolute() / relative))
    if sys.platform == "win32" and real_path(as_windows_reads) != real_path(path):
        return path.as_posix()
    return Path(relative).as_posix()


def _described(value: Any) -> str:
    if isinstance(value, dict):
        return "an object with " + (", ".join(list(map(str, value))[:6]) or "nothing in it")
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
