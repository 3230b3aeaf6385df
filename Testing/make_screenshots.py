"""Makes the pictures of the user guide, with synthetic scans: `python Testing/make_screenshots.py`, about 5 minutes.

The panel is the module's own, under stand-ins for Slicer's widgets; the views are drawn by Slicer's own code.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "LASegColearn"), str(ROOT / "Testing")]

from slicer_stand_in.application import openPanel, startSlicer  # noqa: E402

_PANEL = (640, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "Resources" / "Screenshots")
    parser.add_argument("--minutes", type=float, default=2.0, help="training time of the model that is shown")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    core = startSlicer()

    import slicer

    import LASegColearn

    LASegColearn.registerEffect()
    with tempfile.TemporaryDirectory() as folder, _neutralFolder() as study:
        LASegColearn.makePhantoms(Path(folder) / "phantoms", validation=3)
        widget, frame = openPanel(*_PANEL)
        pictures = _Pictures(core, frame, options.output)
        _showMissing(widget)
        pictures.panel("missing-software")
        widget.showDependencies()
        widget.openStudy(str(study))
        widget.onAddFromScene()
        for case in widget.logic.study.cases[-3:]:
            widget.onRoleChosen(case.id, "validation")
        _until(lambda: widget.ui.deviceLabel.text.startswith(("CPU", "CUDA", "MPS")), 60)
        pictures.panel("cases")
        widget.ui.presetComboBox.setCurrentText("demo")
        widget.ui.minutesSpinBox.value = options.minutes
        widget.trainingSection.onTrain()
        _until(lambda: widget.logic.progress.share > 0.6 or not widget.logic.isRunning, 60 * options.minutes + 120)
        pictures.panelAndViews("training", chart=widget.plots.chart("Losses"))
        _until(lambda: not widget.logic.isRunning, 60 * options.minutes + 120)
        widget.onPredict(None)
        _until(lambda: not widget.logic.isRunning, 900)
        caseId = next(case.id for case in widget.logic.study.cases if case.role == "unlabeled")
        widget.caseTable.select([caseId])
        widget.showCase(caseId)
        pictures.panelAndViews("predicted", volume=widget.logic.cases.volumeNode(caseId))
        _correct(widget, caseId)
        pictures.panelAndViews("correcting", volume=widget.logic.cases.volumeNode(caseId), uncertainty=False)
        _nextRound(widget, options.minutes)
        pictures.panelAndViews("rounds", chart=widget.plots.chart("Overlap by round"))
        widget.cleanup()
        slicer.app.processEvents()


def _correct(widget: Any, caseId: str) -> None:
    """A correction at work: what to annotate next is known, a piece was cut off, and the preview is shown."""
    import numpy as np
    import slicer

    ui = widget.ui
    ui.suggestButton.click()
    _until(lambda: not widget.logic.isRunning, 900)
    for section in (ui.outputsCollapsibleButton, ui.trainCollapsibleButton, ui.predictCollapsibleButton):
        section.collapsed = True
    widget.caseTable.select([caseId])
    ui.showUncertaintyCheckBox.checked = False
    ui.correctButton.click()
    node = widget.correctSection.editor.node
    segmentation, segmentId = node.GetSegmentationNode(), node.GetSelectedSegmentID()
    volume = node.GetSourceVolumeNode()
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentId, volume)
    voxels[:, :, : int(np.median(np.nonzero(voxels)[2]) * 0.9)] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, segmentation, segmentId, volume)
    _until(lambda: "changed" in ui.readoutsLabel.text and " 0.0 %" not in ui.readoutsLabel.text, 60)
    segmentation.RemoveClosedSurfaceRepresentation()
    segmentation.CreateClosedSurfaceRepresentation()


def _nextRound(widget: Any, minutes: float) -> None:
    """Two cases are accepted as they are, and the model goes on."""
    unlabeled = [case.id for case in widget.logic.study.cases if case.role == "unlabeled"]
    for caseId in unlabeled[:2]:
        teacher = widget.logic.showPrediction(caseId)
        widget.logic.useAsLabel(caseId, teacher, teacher.GetSegmentation().GetNthSegmentID(0))
    widget.ui.retrainMinutesSpinBox.value = minutes / 2
    widget.ui.correctCollapsibleButton.collapsed = True
    widget.ui.roundsCollapsibleButton.collapsed = False
    widget.ui.retrainButton.click()
    _until(lambda: not widget.logic.isRunning, 60 * minutes + 180)


class _Pictures:
    """Writes the panel, alone or beside views."""

    def __init__(self, core: Any, frame: Any, output: Path) -> None:
        self._core, self._frame, self._output = core, frame, output
        self._number = 0

    def panel(self, name: str) -> None:
        self._grab().save(str(self._output / f"{name}.png"))

    def panelAndViews(self, name: str, volume: Any = None, chart: Any = None, uncertainty: bool = True) -> None:
        from PySide6.QtCore import Qt
        from PySide6.QtGui import QPainter, QPixmap

        from slicer_stand_in.views import chartView, savePicture, sliceView, threeDView

        panel, size = self._grab(), (440, 490)
        if chart is not None:
            views = [(chartView(chart, (880, panel.height())), (0, 0))]
        else:
            views = []
            for place, orientation in (((0, 0), "Axial"), ((0, 500), "Coronal"), ((450, 500), "Sagittal")):
                self._number += 1
                views.append((sliceView(self._core, volume, f"Picture{self._number}", orientation, size), place))
            views.append((threeDView(self._core, size, str(self._number)), (450, 0)))
            import slicer

            import LASegColearn  # noqa: F401

            foreground = _foreground(slicer.mrmlScene, volume) if uncertainty else None
            slicer.util.setSliceViewerLayers(background=volume, foreground=foreground, foregroundOpacity=0.5)
        whole = QPixmap(panel.width() + 900, panel.height())
        whole.fill(Qt.GlobalColor.black)
        painter = QPainter(whole)
        painter.drawPixmap(0, 0, panel)
        with tempfile.TemporaryDirectory() as folder:
            for number, (view, (x, y)) in enumerate(views):
                file = Path(folder) / f"{number}.png"
                savePicture(view, file)
                painter.drawPixmap(panel.width() + 10 + x, y, QPixmap(str(file)))
        painter.end()
        whole.save(str(self._output / f"{name}.png"))

    def _grab(self) -> Any:
        import slicer

        from slicer_stand_in.pythonqt import bare

        for _ in range(3):
            slicer.app.processEvents()
        return bare(self._frame).grab()


def _foreground(scene: Any, volume: Any) -> Any:
    from LASegColearnSlicer.results import CASE_ATTRIBUTE, KIND_ATTRIBUTE

    nodes = [
        scene.GetNthNodeByClass(n, "vtkMRMLScalarVolumeNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"))
    ]
    wanted = ("uncertainty", volume.GetAttribute(CASE_ATTRIBUTE))
    return next((n for n in nodes if (n.GetAttribute(KIND_ATTRIBUTE), n.GetAttribute(CASE_ATTRIBUTE)) == wanted), None)


@contextmanager
def _neutralFolder() -> Iterator[Path]:
    """A study folder whose path can be in a picture."""
    folder = Path(tempfile.gettempdir()) / "left-atrium-study"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _showMissing(widget: Any) -> None:
    """The panel as it is before anything was installed."""
    widget.ui.dependenciesCollapsibleButton.setVisible(True)
    widget.ui.dependenciesLabel.text = (
        "Training and prediction need software that is not installed yet: torch, monai, matplotlib, Jinja2, tqdm "
        "(several hundred MB, several GB with a GPU)."
    )
    widget.ui.deviceLabel.text = "PyTorch is not installed yet"


def _until(reached: Callable[[], bool], seconds: float) -> None:
    import slicer

    until = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > until:
            sys.exit("This took too long.")
        slicer.app.processEvents()
        time.sleep(0.02)


if __name__ == "__main__":
    main()
