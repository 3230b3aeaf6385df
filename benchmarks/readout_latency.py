"""Time from a stroke in the Segment Editor until the live readouts are told, and what of it the window waits.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/readout_latency.py [--scans ../shared/la --cases la_061 la_062]

Strokes are spheres of 5 mm, painted and erased in turns on the surface of the segment by Slicer's own editor logic
(wheel slicer-core). The edited segment begins as the label, which is also the teacher's segmentation; the students' are
the label with its surface moved in and out by smooth noise. The time goes from the end of the stroke, when its events
have been sent, to the call of the listener. It is measured with an event loop that lets other Python threads run while
it waits, and with one that does not. Baseline: the segment exported as an array and `segmentation_metrics` for each
network, at once, in the window's thread. Without scans, a phantom's label is used on a grid of 200×150×88.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from LASegColearnLib.metrics import segmentation_metrics
from LASegColearnLib.phantom import make_phantom
from LASegColearnSlicer.live_readouts import LiveReadouts, Readouts
from measuring import machine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Testing"))

from mrml_scene import startSlicerCore  # noqa: E402
from mrml_strokes import Strokes, scanAndSegment  # noqa: E402
from timer_loop import TimerLoop  # noqa: E402

_RADIUS_MM = 5.0
# Of the students' surfaces: how far it is moved, and how smoothly.
_MOVED_VOXELS, _SMOOTH_VOXELS = 1.5, 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, help="folder with a folder for each case, with label.nrrd in it")
    parser.add_argument("--cases", nargs="+", default=["la_061", "la_062", "la_063"])
    parser.add_argument("--strokes", type=int, default=30)
    parser.add_argument("--side", type=int, help="first put the label into a larger scan, of so many voxels in i and j")
    options = parser.parse_args()
    core = startSlicerCore()
    say = sys.stdout.write
    say(f"{machine()}\nMilliseconds, median and maximum of {options.strokes} strokes\n")
    for name, label, spacing in _labels(options.scans, options.cases):
        networks = {"teacher": label, "student_1": _moved(label, 1), "student_2": _moved(label, 2)}
        if options.side is not None:
            networks = {network: _padded(mask, options.side) for network, mask in networks.items()}
        label = networks["teacher"]
        sizes = "×".join(str(side) for side in label.shape[::-1])
        say(f"{name}, {sizes} voxels, {np.count_nonzero(label)} inside\n")
        for holdLock in (False, True):
            core.scene.Clear(0)
            loop = TimerLoop(holdLock)
            say(f"  lock {'held' if holdLock else 'free'} while the loop waits\n")
            for what, seconds in _measure(loop, networks, spacing, options.strokes).items():
                say(f"    {what:48s} {1e3 * np.median(seconds):7.1f} {1e3 * np.max(seconds):7.1f}\n")


def _measure(
    loop: TimerLoop, networks: dict[str, np.ndarray], spacing: tuple[float, float, float], count: int
) -> dict[str, list[float]]:
    """Seconds of each part of each stroke."""
    import slicer

    label = networks["teacher"]
    volume, segmentation, segmentId = scanAndSegment(label.shape, spacing)
    slicer.util.updateSegmentBinaryLabelmapFromArray(label.astype(np.uint8), segmentation, segmentId, volume)
    strokes, readouts, told = Strokes(segmentation, segmentId, volume), LiveReadouts(loop.makeTimer), []
    readouts.addListener(told.append)
    readouts.watch(segmentation, segmentId, volume, networks)
    loop.run(lambda: bool(told))
    seconds: dict[str, list[float]] = {
        "stroke until the readouts are told": [],
        "longest stop of the window meanwhile": [],
        "all stops of the window meanwhile": [],
        "baseline: stop of the window": [],
        "the stroke itself": [],
    }
    for number, center in enumerate(_places(label, count)):
        strokes.prepare(center, _RADIUS_MM)
        before, earlier = len(told), time.perf_counter()
        strokes.apply(erase=number % 2 == 1)
        start = time.perf_counter()
        loop.turns.clear()
        if not loop.run(lambda before=before: len(told) > before):
            raise RuntimeError("The readouts were not told within ten seconds.")
        end = time.perf_counter()
        plain = _plain(segmentation, segmentId, volume, networks)
        values = (
            end - start,
            max(loop.turns),
            sum(loop.turns),
            time.perf_counter() - end,
            start - earlier,
        )
        for name, value in zip(seconds, values, strict=True):
            seconds[name].append(value)
        _check(told[-1], plain)
        # Nothing else is under way when the next stroke begins: the export was an event as well.
        loop.run(lambda: False, 0.06)
    readouts.stop()
    return seconds


def _plain(segmentation: Any, segmentId: str, volume: Any, networks: dict[str, np.ndarray]) -> list[tuple[float, ...]]:
    import slicer

    mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentId, volume) > 0
    spacing = volume.GetSpacing()[::-1]
    found = [segmentation_metrics(mask, network, spacing) for network in networks.values()]
    return [(one.dice, one.jaccard, one.hd95, one.asd) for one in found]


def _check(readouts: Readouts, plain: list[tuple[float, ...]]) -> None:
    told = [(one.dice, one.jaccard, one.hd95Mm, one.asdMm) for one in readouts.networks]
    if not np.allclose(np.array(told, float), plain, atol=1e-9):
        raise RuntimeError(f"The readouts are not those of the metrics: {told} and {plain}.")


def _labels(folder: Path | None, cases: list[str]) -> Iterator[tuple[str, np.ndarray, tuple[float, float, float]]]:
    """Name, label (k, j, i) and spacing (i, j, k) in mm of each case."""
    if folder is None:
        yield "phantom", _phantom(), (0.625, 0.625, 0.625)
        return
    for case in cases:
        image = sitk.ReadImage(folder / case / "label.nrrd")
        yield case, sitk.GetArrayFromImage(image) > 0, image.GetSpacing()


def _phantom() -> np.ndarray:
    """A phantom's label, as large as an atrium is in voxels of 0.625 mm."""
    label = sitk.GetArrayFromImage(make_phantom(1, "plain")[1]).astype(np.float32)
    shape = np.array((88, 150, 200))
    inside = ndimage.find_objects(label.astype(np.uint8))[0]
    cut = np.pad(label[inside], 2)
    large = ndimage.zoom(cut, 0.9 * (shape / cut.shape).min(), order=1) > 0.5
    whole = np.zeros(shape, bool)
    start = (shape - large.shape) // 2
    whole[tuple(slice(first, first + side) for first, side in zip(start, large.shape, strict=True))] = large
    return whole


def _moved(label: np.ndarray, seed: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(label.shape), _SMOOTH_VOXELS)
    depth = ndimage.distance_transform_edt(label) - ndimage.distance_transform_edt(~label)
    return depth + _MOVED_VOXELS * noise / noise.std() > 0


def _padded(mask: np.ndarray, side: int) -> np.ndarray:
    before = [(side - length) // 2 for length in mask.shape[1:]]
    after = [side - length - first for length, first in zip(mask.shape[1:], before, strict=True)]
    return np.pad(mask, [(0, 0), *zip(before, after, strict=True)])


def _places(label: np.ndarray, count: int) -> np.ndarray:
    """Voxels of the surface."""
    surface = np.argwhere(label & ~ndimage.binary_erosion(label))
    return surface[np.random.default_rng(0).choice(len(surface), count, replace=False)]


if __name__ == "__main__":
    main()
