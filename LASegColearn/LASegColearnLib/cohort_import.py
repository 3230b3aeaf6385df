"""Cohorts from existing data: folders of scans and labels, MSD and nnU-Net folders, MONAI datalists."""

from __future__ import annotations

import logging
import os
import random
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from LASegColearnLib.cohort import (
    ROLE_OF_KEY,
    Case,
    Cohort,
    case_id_from,
    cohort_from_json,
    id_problems,
    read_json,
    real_path,
    unique_ids,
)
from LASegColearnLib.errors import InputError, Problem, first_of
from LASegColearnLib.scan_names import SUFFIXES, stem

_LAYOUT = "a folder with imagesTr/ (and labelsTr/, imagesTs/), with or without dataset.json, or a .json datalist"
_SEPARATORS = (" ", "_", ".", "-")
# "laendo" is the name of labels in the 2018 Atrial Segmentation Challenge.
_NAMED_LIKE_A_LABEL = re.compile(r"(^|[ ._-])(labels?|segs?|segmentations?|masks?|gt|laendo)([ ._-]|$)", re.IGNORECASE)
# In patterns of file names.
_ID = "{id}"
_LEFT_ATRIUM_NAMES = ("left atrium", "left_atrium", "la", "atrium")


def is_named_like_a_label(image: Path) -> bool:
    """Whether a scan's file name looks like that of a label."""
    return _NAMED_LIKE_A_LABEL.search(stem(image)) is not None


def cohort_from_folders(
    images: Sequence[Path],
    *,
    labels: Path | None = None,
    image_pattern: str | None = None,
    label_pattern: str | None = None,
    segment: str | None = None,
    validation: int = 0,
    seed: int = 0,
) -> Cohort:
    """Find scans and their labels; scans without a label are unlabeled.

    Parameters
    ----------
    images
        Folders of scans, or scan files.
    labels
        Folder of labels. A label has its scan's name (``{id}``), possibly followed by more text.
    image_pattern
        Which files of a folder are scans, for example ``*/image.nrrd``; all scan files by default. ``{id}`` stands for
        the part of a name that scan and label have in common, for example ``{id}_image.nii.gz``.
    label_pattern
        Path of a scan's label: ``{id}`` stands for the scan's file name without suffix, or for the ``{id}`` of
        ``image_pattern``; ``{folder}`` for its folder.
        Examples: ``{id}_label.nrrd``, ``{folder}/label.nrrd``. Relative to ``labels``, else to the scan's folder.
    segment
        Name or value of the segment, if labels have several.
    validation
        Number of labeled cases kept for validation, chosen by ``seed``.

    Raises
    ------
    InputError
        If there are no scans, no label is found although labels were asked for, scans and labels do not match one to
        one, or there are too few labeled cases for validation.
    """
    glob = image_pattern.replace(_ID, "*") if image_pattern else None
    files = list(dict.fromkeys(file for given in images for file in _scans(given, glob, labels)))
    if not files:
        wanted = image_pattern or ", ".join(f"*{suffix}" for suffix in SUFFIXES)
        given = ", ".join(path.name for path in images)
        raise InputError(
            Problem(given or "images", f"Wanted scans ({wanted}), found none.", "Correct it, or give --image-pattern.")
        )
    names = {file: _names(file, image_pattern) for file in files}
    found = _labels_by_pattern(names, labels, label_pattern) if label_pattern else _labels_by_name(names, labels)
    if not found and (labels is not None or label_pattern is not None):
        raise _no_label(files, labels, label_pattern)
    are_labels = {label.resolve() for label in found.values()}
    scans = [file for file in files if file.resolve() not in are_labels]
    cases = [
        Case(case_id, scan, found.get(scan), segment if scan in found else None)
        for scan, case_id in zip(scans, unique_ids(scans), strict=True)
    ]
    cohort = Cohort(
        labeled=tuple(case for case in cases if case.label is not None),
        unlabeled=tuple(case for case in cases if case.label is None),
    )
    return with_validation(cohort, validation, seed)


def import_cohort(source: Path, *, segment: str | None = None, validation: int = 0, seed: int = 0) -> Cohort:
    """Read a cohort from an MSD or nnU-Net folder, a MONAI datalist or a cohort file.

    Its ``training`` list becomes labeled and its ``test`` list unlabeled; images without a label are unlabeled.

    Parameters
    ----------
    source
        The folder or the JSON file.
    segment
        Name or value of the left atrium's label, if there are several.
    validation, seed
        See :func:`cohort_from_folders`; only for a source without validation cases.

    Raises
    ------
    InputError
        If the source is none of these, the left atrium's label is not clear, or as :func:`with_validation` does.
    """
    folder, description = (source.parent, source) if source.is_file() else (source, source / "dataset.json")
    content = read_json(description) if description.is_file() else {}
    fields = content if isinstance(content, dict) else {}
    # A dataset.json of nnU-Net v2 lists no files, or has an empty list of test scans.
    lists = [fields[key] for key in ROLE_OF_KEY if isinstance(fields.get(key), list)]
    has_list = description.name != "dataset.json" or any(lists)
    if not has_list and not (folder / "imagesTr").is_dir():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) if source.is_dir() else "no such thing"
        raise InputError(
            Problem(source.name, f"Wanted {_LAYOUT}, found {found or 'an empty folder'}.", "Use --images and --labels.")
        )
    chosen = _label_value(fields.get("labels"), segment, source.name)
    if has_list:
        # An id that is not a valid folder name is dropped, so that the scan's file name is used.
        for entry in (entry for entries in lists for entry in entries if isinstance(entry, dict)):
            if any(id_problems([str(entry.get("id", ""))], "")):
                entry.pop("id", None)
        cohort = _as_files_are_named(cohort_from_json(content, folder, description.name, chosen))
    else:
        cohort = _from_folder(folder, chosen)
    return with_validation(cohort, validation, seed)


def with_validation(cohort: Cohort, count: int, seed: int) -> Cohort:
    """Keep ``count`` labeled cases for validation, chosen by ``seed``.

    Raises
    ------
    InputError
        If there are too few, or the cohort already has validation cases.
    """
    if count < 0:
        raise InputError(Problem("--validation", f"Wanted 0 or more cases, found {count}.", "Give such a number."))
    if count == 0:
        return cohort
    if cohort.validation:
        raise InputError(
            Problem(
                "--validation",
                f"The source itself has validation cases: {len(cohort.validation)}.",
                "Leave it out.",
            )
        )
    if count >= len(cohort.labeled):
        raise InputError(
            Problem(
                "--validation",
                f"Wanted fewer than the {len(cohort.labeled)} labeled cases, found {count}.",
                "Keep fewer for validation.",
            )
        )
    kept = set(random.Random(seed).sample([case.id for case in cohort.labeled], count))
    return Cohort(
        labeled=tuple(case for case in cohort.labeled if case.id not in kept),
        unlabeled=cohort.unlabeled,
        validation=tuple(case for case in cohort.labeled if case.id in kept),
    )


def _scans(given: Path, pattern: str | None, labels: Path | None) -> list[Path]:
    if given.is_file():
        return [given]
    if not given.is_dir():
        raise InputError(Problem(given.name, "There is no such folder or file.", "Correct the path."))
    try:
        found = list(given.glob(pattern) if pattern else _files_below(given))
    except (NotImplementedError, ValueError, IndexError):
        raise InputError(
            Problem(
                "--image-pattern",
                "Wanted a pattern relative to the folder, found one that is not.",
                'Give one such as "*/image.nrrd".',
            )
        ) from None
    return sorted(
        path
        for path in found
        if _is_scan_file(path)
        and (pattern or not path.name.lower().endswith(".seg.nrrd"))
        and (labels is None or not _lies_in(path, labels) or _lies_in(given, labels))
    )


def _files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, also in linked folders, which pathlib skips; each folder once."""
    # Compared by real path, since some network disks give folders no numbers. Parent folders are excluded, because a
    # link to one would lead to everything beside the folder.
    seen = {real_path(above) for above in folder.resolve().parents}
    unreadable: list[str] = []
    for path, folders, files in os.walk(
        folder, followlinks=True, onerror=lambda error: unreadable.append(Path(error.filename).name)
    ):
        real = real_path(Path(path))
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort(key=lambda name: (Path(path, name).is_symlink(), name))
        yield from (Path(path, name) for name in files)
    if unreadable:
        logging.getLogger(__name__).warning(
            "Folders without read permission were skipped: %s", first_of(sorted(unreadable))
        )


def _lies_in(path: Path, folder: Path) -> bool:
    return folder.resolve() in (path.resolve(), *path.resolve().parents)


def _names(image: Path, pattern: str | None) -> tuple[str, ...]:
    """The names that a label of this scan may begin with, the likeliest first."""
    name = _composed(stem(image))
    given = _id_by_pattern(image, pattern) if pattern and _ID in pattern else None
    names = (name, name.removesuffix("_0000"), case_id_from(image))
    return tuple(dict.fromkeys(names if given is None else (_composed(given), *names)))


def _id_by_pattern(image: Path, pattern: str) -> str | None:
    """What stands at the place of ``{id}`` in a scan's path; None if the pattern does not fit."""
    of_parts = {_ID: "(?P<id>[^/]+)", "**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    before, _, after = pattern.partition(_ID)
    # The same id may be in the pattern again, as in "{id}/{id}_image.nrrd".
    parts = [*re.split(r"(\*\*/|\*|\?)", before), _ID, *re.split(r"(\{id\}|\*\*/|\*|\?)", after)]
    seen, text = False, "(?:.*/)?"
    for part in parts:
        text += "(?P=id)" if part == _ID and seen else of_parts.get(part, re.escape(part))
        seen |= part == _ID
    found = re.fullmatch(text, image.as_posix())
    return None if found is None else found["id"]


def _composed(name: str) -> str:
    """The name in Unicode's composed form: macOS writes accents as separate characters, other systems do not."""
    return unicodedata.normalize("NFC", name)


def _labels_by_pattern(names_of: Mapping[Path, Sequence[str]], labels: Path | None, pattern: str) -> dict[Path, Path]:
    found = {}
    for image, names in names_of.items():
        for name in (stem(image), *names, *(unicodedata.normalize("NFD", name) for name in names)):
            # Joining an absolute path, as {folder} may be, to another leaves it unchanged.
            folder = str(image.parent.absolute())
            path = (labels or image.parent) / pattern.replace(_ID, name).replace("{folder}", folder)
            if path.is_file() and path != image:
                found[image] = path
                break
    _refuse_several({image: [label] for image, label in found.items()})
    return found


def _labels_by_name(names: Mapping[Path, Sequence[str]], labels: Path | None) -> dict[Path, Path]:
    """Labels named like their scans, or with the scan's name followed by a space, ``_``, ``-`` or dot and more text."""
    if labels is None:
        return {}
    images = list(names)
    scans = {image.resolve() for image in images}
    files = [path for path in sorted(_files_below(labels)) if _is_scan_file(path) and path.resolve() not in scans]
    same: dict[Path, list[Path]] = {}
    longer: dict[Path, list[Path]] = {}
    for file in files:
        label = _composed(stem(file))
        owners, choices = [image for image in images if label in names[image]], same
        if not owners:
            owners, choices = _whose_name_begins(label, names), longer
        if len(owners) > 1:
            owners = [image for image in owners if image.parent.name == file.parent.name] or owners
        for owner in owners:
            choices.setdefault(owner, []).append(file)
    found = {**longer, **same}
    _refuse_several(found)
    used = {file for chosen in found.values() for file in chosen}
    left = [file.name for file in files if file not in used]
    if left:
        logging.getLogger(__name__).warning(
            "%d files in the folder of labels match no scan: %s", len(left), first_of(left)
        )
    return {image: chosen[0] for image, chosen in found.items()}


def _whose_name_begins(label: str, names: Mapping[Path, Sequence[str]]) -> list[Path]:
    """The scans with the longest name that the label's name begins with: "a_2_label" belongs to "a_2", not to "a"."""
    lengths = {
        image: max(
            (len(name) for name in own if label.startswith(name) and label[len(name) :][:1] in _SEPARATORS), default=0
        )
        for image, own in names.items()
    }
    longest = max(lengths.values(), default=0)
    return [image for image, length in lengths.items() if length == longest > 0]


def _refuse_several(found: Mapping[Path, Sequence[Path]]) -> None:
    """Raise :class:`InputError` for a scan with several labels, or a label that fits several scans."""
    problems = [
        Problem(
            image.name,
            f"Wanted one label, found {len(files)}: {', '.join(file.name for file in files[:4])}.",
            'Say which with --label-pattern, for example "{id}_label.nrrd".',
        )
        for image, files in found.items()
        if len(files) > 1
    ]
    owners: dict[Path, list[Path]] = {}
    for image, files in found.items():
        owners.setdefault(files[0], []).append(image)
    problems += [
        Problem(
            label.name,
            f"Wanted one scan for this label, found {len(images)}: {', '.join(map(_with_folder, images[:4]))}.",
            "Put the labels into folders with the same names as those of the scans, or give --label-pattern for the "
            "labels and --image-pattern for the scans.",
        )
        for label, images in owners.items()
        if len(images) > 1
    ]
    if problems:
        raise InputError(problems)


def _no_label(files: Sequence[Path], labels: Path | None, pattern: str | None) -> InputError:
    wanted = f"labels as {pattern}" if pattern else f"labels named as the scans, such as {stem(files[0])}.nrrd"
    where = labels if labels is not None else files[0].parent
    present = sorted(path.name for path in where.iterdir()) if where.is_dir() else []
    found = ", ".join(present[:6]) or "nothing"
    remedy = (
        "Correct --labels or --label-pattern. If the names of scans and labels differ at their ends, give both: "
        '--image-pattern "{id}_image.nii.gz" --label-pattern "{id}_label.nii.gz".'
    )
    return InputError(Problem(where.name, f"Wanted {wanted}, found {found}.", remedy))


def _with_folder(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _is_scan_file(path: Path) -> bool:
    # macOS puts files named "._..." beside those it copies. A broken link is kept, so that it is reported as missing.
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".") and not path.is_dir()


def _from_folder(source: Path, segment: str | None) -> Cohort:
    """A cohort from nnU-Net's layout without a list, in which file names match scans and labels."""
    images = [path for name in ("imagesTr", "imagesTs") for path in _scans_if_there(source / name)]
    _refuse_channels(images)
    labels = source / "labelsTr"
    return cohort_from_folders(images, labels=labels if labels.is_dir() else None, segment=segment)


def _scans_if_there(folder: Path) -> list[Path]:
    return _scans(folder, None, None) if folder.is_dir() else []


def _refuse_channels(images: Sequence[Path]) -> None:
    stems = {stem(image) for image in images}
    several = sorted(name for name in stems if name.endswith("_0001") and f"{name[:-5]}_0000" in stems)
    if several:
        raise _several_channels(several)


def _several_channels(names: Sequence[str]) -> InputError:
    return InputError(
        Problem(
            "imagesTr",
            f"Wanted one channel per scan, found more: {', '.join(names[:4])}.",
            "Copy the channel that shows the left atrium best to a separate folder.",
        )
    )


def _as_files_are_named(cohort: Cohort) -> Cohort:
    """Add the channel number that nnU-Net v1 omits in its list but has in the file names.

    Raises
    ------
    InputError
        If there are files of several channels, since the list does not say which one is meant.
    """
    several: list[str] = []

    def renamed(cases: tuple[Case, ...]) -> tuple[Case, ...]:
        for case in cases:
            second = _of_channel(case.image, 1)
            if _with_channel(case.image) != case.image and second.is_file():
                several.append(stem(second))
        return tuple(replace(case, image=_with_channel(case.image)) for case in cases)

    named = Cohort(renamed(cohort.labeled), renamed(cohort.unlabeled), renamed(cohort.validation))
    if several:
        raise _several_channels(several)
    return named


def _with_channel(image: Path) -> Path:
    candidate = _of_channel(image, 0)
    return candidate if not image.exists() and candidate.is_file() else image


def _of_channel(image: Path, channel: int) -> Path:
    name = stem(image)
    return image.with_name(f"{name}_{channel:04}{image.name[len(name) :]}")


def _label_value(labels: Any, wanted: str | None, name: str) -> str | None:
    """The left atrium's value among a dataset's labels: MSD writes value to name, nnU-Net name to value."""
    if not isinstance(labels, dict):
        return wanted
    values = {}
    for key, value in labels.items():
        label, number = (value, key) if str(key).lstrip("-").isdigit() else (key, value)
        if isinstance(number, (int, str)) and str(number) != "0" and str(label).lower() != "ignore":
            values[str(label).lower()] = str(number)
    if wanted is not None:
        if wanted.lower() not in values and wanted not in values.values():
            raise InputError(
                Problem(
                    name,
                    f"Wanted the label {wanted!r}, found {', '.join(values) or 'none'}.",
                    "Name one of these (`lasegcolearn cohort --segment`).",
                )
            )
        return values.get(wanted.lower(), wanted)
    ignored = "ignore" in (str(text).lower() for pair in labels.items() for text in pair)
    if len(values) == 1 and ignored:
        # The files also have the ignored value, so the left atrium's must be named.
        return next(iter(values.values()))
    if len(values) <= 1:
        return None
    named = [values[known] for known in _LEFT_ATRIUM_NAMES if known in values]
    if not named:
        raise InputError(
            Problem(
                name,
                f"Wanted to know which label is the left atrium, found {', '.join(values)}.",
                "Say which (`lasegcolearn cohort --segment`).",
            )
        )
    return named[0]
