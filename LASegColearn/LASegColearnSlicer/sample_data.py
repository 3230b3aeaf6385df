"""Synthetic scans in Slicer's Sample Data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

_ICON = Path(__file__).resolve().parent.parent / "Resources" / "Icons" / "LASegColearn.png"


def registerSampleData() -> None:
    """Offer synthetic scans in Sample Data; they are made on this computer, nothing is downloaded."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="LASegColearn",
        sampleName="LeftAtriumPhantoms",
        # Required although nothing is downloaded; only the thumbnail and the custom downloader are used.
        uris="file:LeftAtriumPhantoms",
        fileNames="LeftAtriumPhantoms.nrrd",
        nodeNames="LeftAtriumPhantoms",
        thumbnailFileName=str(_ICON),
        customDownloader=lambda source: makePhantoms(Path(slicer.app.temporaryPath) / "LASegColearnPhantoms"),
    )


def makePhantoms(folder: Path, labeled: int = 4, unlabeled: int = 6, validation: int = 2) -> list[Any]:
    """Make synthetic scans in a folder, load them with their labels, and return the volume nodes."""
    from LASegColearnLib.cohort import load_cohort
    from LASegColearnLib.phantom import write_phantom_cohort

    file = folder / "cohort.json"
    if not file.exists():
        write_phantom_cohort(folder, labeled=labeled, unlabeled=unlabeled, validation=validation)
    volumes = []
    for case in load_cohort(file).cases:
        volume = slicer.util.loadVolume(str(case.image))
        volume.SetName(f"Phantom {case.id}")
        volumes.append(volume)
        if case.label is not None:
            label = slicer.util.loadSegmentation(str(case.label))
            label.SetName(f"Phantom {case.id} label")
            label.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return volumes
