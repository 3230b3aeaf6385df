"""The list of preprocessed cases in a run's cache, from which the run can be resumed without the scans."""

from __future__ import annotations

import json
from pathlib import Path

from LASegColearnLib.case_cache import CachedCase, stored_array
from LASegColearnLib.cohort import ROLES
from LASegColearnLib.run_folder import RunFolder, write_json_atomically
from LASegColearnLib.trainer import TrainingCases


def save_cache_index(folder: RunFolder, cases: TrainingCases) -> None:
    """Write the list of preprocessed cases into the run's cache, by role, with the names of their files there."""

    def entry(case: CachedCase) -> dict[str, str | None]:
        return {
            "id": case.id,
            "image": case.image_file.name,
            "label": case.label_file.name if case.label_file else None,
        }

    index = {role: [entry(case) for case in getattr(cases, role)] for role in ROLES}
    write_json_atomically(folder.cache / "index.json", index)


def load_cache_index(folder: RunFolder, lineage: dict[str, list[str]]) -> TrainingCases | None:
    """The preprocessed cases listed in the run's cache; None if any of their files is missing or damaged."""
    index_file = folder.cache / "index.json"
    if not index_file.exists():
        return None
    found: dict[str, list[CachedCase]] = {}
    try:
        index = json.loads(index_file.read_text(encoding="utf-8"))
        for role in ROLES:
            found[role] = []
            for entry in index[role]:
                # Only the names: a path in the index of a foreign run must not lead out of the cache.
                image = folder.cache / Path(entry["image"]).name
                label = folder.cache / Path(entry["label"]).name if entry["label"] else None
                if stored_array(image) is None or (label is not None and stored_array(label) is None):
                    return None
                found[role].append(CachedCase(entry["id"], image, label))
    except (ValueError, KeyError, TypeError):
        return None
    return TrainingCases(found["labeled"], found["unlabeled"], found["validation"], lineage)
