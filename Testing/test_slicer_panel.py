"""The module's panel, with Slicer's real scene and a real engine in a child process, on phantoms."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from LASegColearnLib.cohort import Case, Cohort, save_cohort
from LASegColearnLib.errors import InputError
from LASegColearnSlicer.results import modelOf
from LASegColearnSlicer.study import Study
from slicer_stand_in.application import closePanel, enter, leave, openPanel, startSlicer
from slicer_stand_in.pythonqt import bare

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"spacing_mm": "5,5,5", "patch_size": "16,16,16", "filters": "2", "precision": "float32"}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from LASegColearnLib.phantom import write_phantom_cohort

    folder = tmp_path_factory.mktemp("Vorhöfe")
    write_phantom_cohort(folder, labeled=2, unlabeled=3, validation=1, seed=3)
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    core = startSlicer()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    core.scene.Clear(0)
    import qt

    qt.QSettings().clear()
    widget, frame = openPanel()
    yield widget, frame
    widget.cleanup()
    closePanel()


@pytest.fixture
def panel(opened: tuple[Any, Any]) -> Any:
    return opened[0]


@pytest.fixture
def filled(panel: Any, phantoms: Path, tmp_path: Path) -> Any:
    """A panel with a study of phantoms from the scene, set up for the smallest training."""
    import LASegColearn

    LASegColearn.makePhantoms(phantoms)
    panel.ui.studyFolderButton.directory = str(tmp_path / "Studie Vorhöfe")
    panel.ui.addFromSceneButton.click()
    assert panel.ui.inputsMessageLabel.text == ""
    panel.onRoleChosen("case_006", "validation")
    _small(panel)
    return panel


def _small(panel: Any, iterations: int = 6) -> None:
    panel.ui.presetComboBox.setCurrentText("demo")
    panel.ui.byIterationsCheckBox.checked = True
    panel.ui.iterationsSpinBox.value = iterations
    table = panel.ui.settingsTable
    for row in range(table.rowCount):
        name = table.item(row, 0).text()
        if name in SMALL:
            table.item(row, 1).setText(SMALL[name])


def _until(reached: Callable[[], bool], seconds: float = 120) -> float:
    """Let Slicer's event loop run until then; returns its longest stall in seconds."""
    import slicer

    until, last, longest = time.monotonic() + seconds, time.monotonic(), 0.0
    while not reached():
        assert time.monotonic() < until
        slicer.app.processEvents()
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        time.sleep(0.002)
    return longest


def _columns(panel: Any, row: int) -> list[str]:
    table = panel.ui.casesTable
    return ["" if table.item(row, c) is None else table.item(row, c).text() for c in range(table.columnCount)]


@pytest.mark.alone
def test_the_whole_story(filled: Any, opened: tuple[Any, Any], tmp_path: Path) -> None:
    """Fill the table, train, cancel, resume, predict, see the result, save the scene and open it again."""
    import slicer

    panel, ui = filled, filled.ui
    assert [case.role for case in panel.logic.study.cases] == [*["labeled"] * 2, *["unlabeled"] * 3, "validation"]
    assert _columns(panel, 0)[0] == "Phantom phantom-01"
    _small(panel, iterations=100000)
    assert ui.trainButton.enabled
    ui.trainButton.click()
    assert ui.trainMessageLabel.text == ""
    assert not ui.trainButton.enabled and ui.cancelButton.enabled
    stall = _until(lambda: panel.logic.progress.iteration >= 3 and panel.plots.chart("Losses") is not None)
    assert stall < 0.1, "Slicer's window waited for the engine."
    assert "left" in ui.statusLabel.text
    assert ui.deviceLabel.text.startswith(("CPU", "CUDA", "MPS"))
    assert panel.plots.chart("Losses").GetNumberOfPlotSeriesNodes() >= 2
    started = time.monotonic()
    ui.cancelButton.click()
    _until(lambda: not panel.logic.isRunning, 10)
    assert time.monotonic() - started < 5
    assert ui.statusLabel.text == "Stopped; it can be resumed"
    run = panel.logic.study.resumableRun
    assert run is not None

    assert ui.resumeButton.enabled
    ui.resumeButton.click()
    before = panel.logic.progress.iteration
    _until(lambda: panel.logic.progress.iteration > before)
    ui.pauseButton.click()
    _until(lambda: not panel.logic.isRunning, 20)
    assert panel.logic.study.resumableRun is not None
    _small(panel, iterations=6)
    ui.trainButton.click()
    _until(lambda: not panel.logic.isRunning)
    assert ui.statusLabel.text.startswith("Finished after 6 iterations"), panel.workStatus.details
    assert ui.progressBar.value == 1000
    assert "Training 002, 6 iterations" in ui.modelLabel.text

    panel.showCase("case_006")
    panel.caseTable.select(["case_003", "case_006"])
    ui.predictSelectedButton.click()
    assert ui.cancelButton.enabled and not ui.pauseButton.enabled, "What cannot be gone on with cannot be paused."
    assert not ui.removeButton.enabled
    _until(lambda: not panel.logic.isRunning)
    assert ui.predictMessageLabel.text == ""
    assert panel.logic.study.case("case_003").state == "predicted"
    figures = panel.logic.study.case("case_006").figures
    assert figures["run"] == "002"
    assert _columns(panel, 5)[4] == f"{figures['volume_ml']:.1f}"
    assert _columns(panel, 5)[7] == f"{figures['dice']:.3f}"
    assert _columns(panel, 2)[7] == ""
    teacher = panel.logic.display.teacherNode("case_006")
    volume = panel.logic.cases.volumeNode("case_006")
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(teacher))
    assert parent and parent == hierarchy.GetItemByDataNode(volume)
    doubt = panel.logic.display.uncertaintyNode("case_006")
    assert slicer.modules.colors.logic().GetColorLegendDisplayNode(doubt).GetVisibility()
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    panel.showCase("case_006")
    panel.logic.showPrediction("case_003")
    assert view.GetBackgroundVolumeID() == volume.GetID(), "Loading another case's prediction changes no view."
    panel.logic.display.remove("case_003")
    first = teacher.GetID()
    panel.logic.study.addFigures("case_006", {"run": "a later model"})
    panel.showCase("case_006")
    assert panel.logic.display.teacherNode("case_006").GetID() != first, "An older model's result is still shown."
    panel.logic.study.addFigures("case_006", {"run": "002"})
    leave(panel)
    panel.logic.predict(["case_006"], onEvent=panel.onPredictionEvent, onDone=panel.onPredicted)
    _until(lambda: not panel.logic.isRunning)
    assert ui.statusLabel.text.startswith("Predicted"), "Working in another module must not disturb a prediction."
    enter(panel, opened[1])
    panel.showCase("case_006")
    assert "No case is shown" not in ui.predictMessageLabel.text
    places = panel.logic.doubtfulPlaces("case_006")
    ui.nextDoubtButton.click()
    found = f"Doubtful place 1 of {len(places)}"
    if places:
        assert ui.statusLabel.text == found
    else:
        assert "No region of this case is uncertain" in ui.predictMessageLabel.text
    _correctAndTrainAgain(panel)
    leftovers = [path.name for path in panel.logic.study.folder.iterdir()]
    assert "predict.json" not in leftovers and "evaluate.json" not in leftovers

    file = tmp_path / "szene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(file))
    slicer.mrmlScene.Clear(0)
    assert panel.logic.cases.volumeNode("case_006") is None
    assert slicer.mrmlScene.ReadFromMRB(str(file), True)
    assert panel.logic.cases.volumeNode("case_006") is not None
    assert panel.logic.display.teacherNode("case_006") is not None
    panel.initializeParameterNode()
    assert panel._parameterNode.studyFolder == str(panel.logic.study.folder)
    assert ui.iterationsSpinBox.value == 6
    assert panel.logic.cases.refreshLabels() == []


def _correctAndTrainAgain(panel: Any) -> None:
    """The teacher's segmentation is copied, corrected in the panel, made a label; the model goes on and is judged."""
    import slicer

    ui, editor = panel.ui, panel.correctSection.editor
    ui.suggestButton.click()
    _until(lambda: not panel.logic.isRunning)
    asked = [case for case in panel.logic.study.cases if case.suggested is not None]
    assert sorted(case.id for case in asked) == ["case_003", "case_004", "case_005"], panel.workStatus.details
    assert ui.correctMessageLabel.text.startswith("Annotate Phantom ")
    assert sorted(_columns(panel, row)[9] for row in (2, 3, 4)) == ["1", "2", "3"]
    assert _columns(panel, 0)[9] == ""

    panel.caseTable.select(["case_003"])
    ui.correctButton.click()
    assert ui.correctMessageLabel.text == ""
    mine, volume = editor.node.GetSegmentationNode(), panel.logic.cases.volumeNode("case_003")
    assert editor.node.GetSourceVolumeNode() is volume
    assert mine is not panel.logic.display.teacherNode("case_003")
    assert modelOf(mine, mine.GetSegmentation().GetNthSegmentID(0)) == "002"
    assert panel.logic.study.case("case_003").state == "in progress"
    _until(lambda: ui.readoutsLabel.text != "")
    assert ui.readoutsLabel.text.endswith("0.0 % of the teacher's volume changed (0.0 mL)")
    assert ui.readoutsTable.rowCount == 3 and ui.readoutsTable.item(0, 0).text() == "1.000"
    _outline(mine, editor.node.GetSelectedSegmentID(), volume)
    _until(lambda: ui.readoutsTable.item(0, 0).text() != "1.000")
    panel.showCase("case_006")
    assert not mine.GetDisplayNode().GetVisibility(), "Another patient's outline must not lie over this scan."
    panel.showCase("case_003")
    assert mine.GetDisplayNode().GetVisibility()
    ui.correctButton.click()
    assert editor.node.GetSegmentationNode() is mine, "Work that was begun must be gone on with."
    ui.useEditedButton.click()
    assert "is labeled now" in ui.correctMessageLabel.text
    labeled = panel.logic.study.case("case_003")
    assert (labeled.role, labeled.state, labeled.origin.model) == ("labeled", "completed", "002")
    assert labeled.origin.when[:2] == "20"

    ui.retrainMinutesSpinBox.value = 0.05
    ui.retrainButton.click()
    assert ui.roundsMessageLabel.text == ""
    slicer.mrmlScene.RemoveNode(volume)
    _until(lambda: not panel.logic.isRunning)
    assert ui.statusLabel.text.startswith("Finished after"), panel.workStatus.details
    assert [run.path.name for run in panel.logic.study.runs] == ["001", "002", "003"]
    assert json.loads(panel.logic.study.runs[-1].cohort.read_text("utf-8"))["labeled"][2]["id"] == "case_003"
    assert all(run.last_checkpoint.exists() for run in panel.logic.study.runs)
    # Training 001 was paused and is a model all the same; 002 began before there was any that had been judged.
    last = panel.logic.rounds[-1]
    assert (last.run, last.startedFrom, last.newLabels, last.cases) == ("003", "002", ("case_003",), 1)
    assert "Too few cases to tell which is better" in ui.roundsMessageLabel.text
    assert panel.logic.study.currentRun.path.name == "003"
    assert ui.roundsTable.item(2, 0).text() == "003, current"
    assert panel.plots.chart("Overlap by round") is not None
    panel.roundsTable.select("002")
    ui.makeCurrentButton.click()
    assert panel.logic.study.currentRun.path.name == "002"
    assert "Training 002" in ui.modelLabel.text


def _outline(segmentation: Any, segmentId: str, volume: Any) -> None:
    """Draw a box in the middle of the scan."""
    import numpy as np
    import slicer

    mask = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    mask[tuple(slice(n // 3, 2 * n // 3) for n in mask.shape)] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segmentId, volume)


@pytest.mark.alone
def test_closing_the_scene_leaves_training_alone_and_leaving_slicer_offers_the_run_again(
    filled: Any, opened: tuple[Any, Any], tmp_path: Path
) -> None:
    import slicer

    panel, frame = opened
    _small(panel, iterations=100000)
    panel.ui.trainButton.click()
    _until(lambda: panel.logic.progress.iteration >= 2)
    slicer.mrmlScene.Clear(0)
    before = panel.logic.progress.iteration
    _until(lambda: panel.logic.progress.iteration > before)
    assert panel._parameterNode.studyFolder == str(panel.logic.study.folder)
    leave(panel)
    enter(panel, frame)
    assert panel.logic.isRunning
    started = time.monotonic()
    panel.cleanup()
    assert time.monotonic() - started < 5
    assert not panel.logic.isRunning
    again, _frame = openPanel()
    assert again.ui.studyFolderButton.text == str(tmp_path / "Studie Vorhöfe"), "The last study is opened again."
    assert again.ui.resumeButton.enabled
    assert "Press Resume to continue it" in again.ui.trainMessageLabel.text
    again.cleanup()


def test_what_was_chosen_is_still_chosen_after_a_look_at_another_module(opened: tuple[Any, Any]) -> None:
    panel, frame = opened
    panel.ui.presetComboBox.setCurrentText("paper")
    panel.ui.deviceComboBox.setCurrentText("cpu")
    panel.ui.methodComboBox.setCurrentText("bcp")
    for _round in range(2):
        leave(panel)
        enter(panel, frame)
        chosen = panel.trainingSection.options()
        assert (chosen.preset, chosen.device, chosen.method) == ("paper", "cpu", "bcp")
        assert panel.ui.presetComboBox.currentText == "paper"


def test_entering_the_panel_again_says_nothing_of_errors(filled: Any, opened: tuple[Any, Any]) -> None:
    _panel, frame = opened
    leave(filled)
    enter(filled, frame)
    assert filled.ui.inputsMessageLabel.text == ""
    assert filled.ui.trainButton.enabled


def test_what_was_said_of_the_inputs_stays_after_a_look_at_another_module(filled: Any, opened: tuple[Any, Any]) -> None:
    filled.messages.say("inputs", "Three labels are of no scan.")
    leave(filled)
    enter(filled, opened[1])
    assert filled.ui.inputsMessageLabel.text == "Three labels are of no scan."


def test_a_click_on_the_box_for_iterations_frees_the_number_of_them_and_tells_the_time_anew(filled: Any) -> None:
    ui = filled.ui
    ui.minutesSpinBox.value = 7.0
    for byIterations in (False, True, False):
        # As a person does: Slicer's binding hears of it after the panel.
        ui.byIterationsCheckBox.click()
        assert ui.byIterationsCheckBox.checked == byIterations
        assert (ui.iterationsSpinBox.enabled, ui.minutesSpinBox.enabled) == (byIterations, not byIterations)
        assert ("takes 7 min" in ui.estimateLabel.text) == (not byIterations)
    ui.minutesSpinBox.value = 9.0
    assert "takes 9 min" in ui.estimateLabel.text


def test_a_preset_that_is_chosen_brings_its_length(opened: tuple[Any, Any]) -> None:
    from LASegColearnLib.settings import PRESETS
    from slicer_stand_in.pythonqt import bare

    panel, frame = opened
    combo = panel.ui.presetComboBox
    lengths = {}
    for name in ("demo", "paper", "cpu"):
        combo.setCurrentText(name)
        # As a person's choice tells.
        bare(combo).activated.emit(combo.currentIndex)
        options = panel.trainingSection.options()
        lengths[name] = (options.minutes, options.iterations if options.minutes is None else None)
        # What is typed into the other would not count.
        assert panel.ui.minutesSpinBox.enabled == (options.minutes is not None) != panel.ui.iterationsSpinBox.enabled
    # The box has one decimal.
    assert lengths["demo"] == (pytest.approx(PRESETS["demo"].minutes, abs=0.06), None)
    assert (lengths["paper"], lengths["cpu"]) == ((None, 6000), (60.0, None))
    panel.ui.minutesSpinBox.value = 7.0
    leave(panel)
    enter(panel, frame)
    assert panel.trainingSection.options().minutes == 7.0, "What was changed afterwards stays."


def test_the_device_is_asked_for_once_when_the_choice_has_settled(
    opened: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    panel, frame = opened
    asked: list[str] = []

    class Probe:
        def kill(self) -> None: ...

        def wait(self, seconds: float) -> None: ...

    def probe(device: str, tell: Any, done: Any) -> Probe:
        asked.append(device)
        return Probe()

    panel.deviceProbe.showInstead("")
    monkeypatch.setattr(panel.deviceProbe, "_probe", probe)
    for device in ("cuda", "mps", "cpu"):
        panel.ui.deviceComboBox.setCurrentText(device)
    _until(lambda: bool(asked), 5)
    leave(panel)
    enter(panel, frame)
    started = time.monotonic()
    _until(lambda: time.monotonic() > started + 0.5)
    assert asked == ["cpu"]


def test_a_python_that_cannot_be_started_is_said_of_the_device(panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(8, "Exec format error")

    asked: list[Any] = []

    def answer(*arguments: Any) -> Any:
        asked.append(arguments)
        return None

    panel.deviceProbe.showInstead("")
    monkeypatch.setattr(panel.deviceProbe, "_probe", refuse)
    panel.deviceProbe.probe()
    assert panel.ui.deviceLabel.text == "Unknown: Slicer's Python cannot be started."
    monkeypatch.setattr(panel.deviceProbe, "_probe", answer)
    panel.deviceProbe.probe()
    assert len(asked) == 1, "It is asked again the next time."


def test_what_is_judged_or_suggested_cannot_be_paused_or_resumed(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from LASegColearnSlicer.engine_process import EngineOutcome, EngineState

    filled.ui.pauseButton.enabled = True
    filled.ui.statusLabel.text = ""
    filled.trainingSection.onPause()
    assert filled.ui.statusLabel.text == ""
    filled.ui.pauseButton.enabled = True
    filled.trainingSection.onEvent({"event": "predicting", "done": 1, "of": 2})
    assert not filled.ui.pauseButton.enabled
    monkeypatch.setattr(type(filled.logic), "canResume", True)
    filled.onSuggested(EngineOutcome(EngineState.STOPPED, "", ""))
    assert filled.ui.statusLabel.text == "Stopped"


def test_a_study_is_chosen_by_the_button_and_the_same_folder_again_opens_it_again(
    panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PySide6.QtWidgets import QFileDialog

    button = panel.ui.studyFolderButton
    assert button.text == "Choose a study folder ..."
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *arguments: "")
    button.browse()
    assert not panel.logic.hasStudy
    folder = tmp_path / "study"
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *arguments: str(folder))
    button.browse()
    assert button.text == str(folder) == str(panel.logic.study.folder)
    panel.logic.closeStudy()
    button.browse()
    assert panel.logic.hasStudy
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_the_study_of_last_time_is_opened_unless_it_is_gone(panel: Any, tmp_path: Path) -> None:
    panel.openStudy(str(tmp_path / "study"))
    panel.logic.closeStudy()
    import slicer

    slicer.mrmlScene.Clear(0)
    again, _frame = openPanel()
    assert again.logic.study.folder == tmp_path / "study"
    again.cleanup()
    shutil.rmtree(tmp_path / "study")
    slicer.mrmlScene.Clear(0)
    third, _frame = openPanel()
    assert not third.logic.hasStudy and not (tmp_path / "study").exists()
    third.cleanup()


def test_a_scene_whose_study_is_gone_is_not_given_another(panel: Any, tmp_path: Path) -> None:
    panel.openStudy(str(tmp_path / "of this scene"))
    panel.logic.closeStudy()
    shutil.rmtree(tmp_path / "of this scene")
    Study.at(tmp_path / "another")
    import qt

    qt.QSettings().setValue("LASegColearn/StudyFolder", str(tmp_path / "another"))
    again, _frame = openPanel()
    assert not again.logic.hasStudy
    assert "was not found" in again.ui.inputsMessageLabel.text
    assert again._parameterNode.studyFolder == str(tmp_path / "of this scene")
    again.cleanup()


def test_folders_and_cohort_files_are_chosen_in_dialogs(
    panel: Any, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qt

    panel.ui.studyFolderButton.directory = str(tmp_path / "study")
    (tmp_path / "scans").mkdir()
    shutil.copy(next((phantoms).rglob("*.nrrd")), tmp_path / "scans" / "one.nrrd")
    chosen = ""
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_arguments: chosen)
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_arguments: chosen)
    for button in (panel.ui.addFolderButton, panel.ui.addCohortButton):
        button.click()
    assert panel.logic.study.cases == ()
    chosen = str(tmp_path / "scans")
    panel.ui.addFolderButton.click()
    assert [case.name for case in panel.logic.study.cases] == ["one"]
    chosen = str(phantoms / "cohort.json")
    panel.ui.addCohortButton.click()
    assert len(panel.logic.study.cases) == 7


def test_how_long_iterations_take_is_told_by_the_model_that_is_there(
    filled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import types

    from LASegColearnSlicer import panel_texts

    filled._parameterNode.byIterations, filled._parameterNode.iterations = True, 90
    assert "min" not in filled.ui.estimateLabel.text
    monkeypatch.setattr(Study, "currentRun", property(lambda study: study.newRun()))
    monkeypatch.setattr(panel_texts, "knownProgress", lambda run: types.SimpleNamespace(secondsAnIteration=2.0))
    model = filled.logic.study.currentRun
    assert "3 min" in panel_texts.timeEstimate(filled.logic.study.cases, model, None, 90)


def test_what_is_predicted_is_what_the_button_says(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(filled.logic, "predict", lambda caseIds=None, **_options: asked.append(caseIds))
    filled.showCase("case_002")
    filled.caseTable.select(["case_001", "case_003"])
    for button in (filled.ui.predictShownButton, filled.ui.predictSelectedButton, filled.ui.predictAllButton):
        button.enabled = True
        button.click()
    assert asked == [["case_002"], ["case_001", "case_003"], None]


def test_buttons_for_a_case_say_that_none_is_selected(filled: Any) -> None:
    filled.caseTable.select([])
    filled.ui.showCaseButton.click()
    assert filled.ui.inputsMessageLabel.text == "No case is selected. Select one in the table."
    filled.ui.removeButton.click()
    assert filled.ui.inputsMessageLabel.text == "No case is selected. Select cases in the table."


def test_every_role_and_state_can_be_chosen_by_its_name(filled: Any) -> None:
    from LASegColearnSlicer.study import Role, State

    for column, kind in ((1, Role), (3, State)):
        combo = filled.ui.casesTable.cellWidget(0, column)
        names = [combo.itemData(index) for index in range(combo.count)]
        assert names == [combo.itemText(index) for index in range(combo.count)] == list(get_args(kind))


def test_scrolling_over_the_table_changes_no_role(filled: Any) -> None:
    from PySide6.QtCore import QPoint, QPointF, Qt
    from PySide6.QtGui import QWheelEvent
    from PySide6.QtWidgets import QApplication

    from slicer_stand_in.pythonqt import bare

    combo = bare(filled.ui.casesTable.cellWidget(2, 1))
    place, down = QPointF(5, 5), QPoint(0, -120)
    none = (Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase)
    QApplication.sendEvent(combo, QWheelEvent(place, place, QPoint(), down, *none, False))
    assert combo.currentText() == "unlabeled"
    assert filled.logic.study.case("case_003").role == "unlabeled"


def test_scans_that_lie_where_slicer_clears_up_are_copied_into_the_study(panel: Any, tmp_path: Path) -> None:
    import slicer

    import LASegColearn

    slicer.app.temporaryPath = str(tmp_path / "temporary")
    LASegColearn.makePhantoms(tmp_path / "temporary" / "phantoms", labeled=1, unlabeled=1, validation=0)
    panel.openStudy(str(tmp_path / "study"))
    panel.ui.addFromSceneButton.click()
    shutil.rmtree(tmp_path / "temporary")
    assert len(panel.logic.study.cases) == 2
    for case in panel.logic.study.cases:
        assert case.scan.is_relative_to(tmp_path / "study") and case.scan.exists()


def test_without_a_study_nothing_can_be_started_and_the_button_says_why(panel: Any) -> None:
    assert not panel.ui.trainButton.enabled
    assert panel.ui.trainButton.toolTip == panel.ui.estimateLabel.text == "Choose a study folder first"
    assert not panel.ui.predictAllButton.enabled
    assert not panel.ui.addFromSceneButton.enabled


def test_that_nothing_will_tell_the_accuracy_is_said_before_the_training(filled: Any) -> None:
    assert "validation" not in filled.ui.estimateLabel.text
    filled.onRoleChosen("case_006", "labeled")
    assert filled.ui.estimateLabel.text.splitlines()[1].startswith(
        "No case has the role validation, so the accuracy will stay unknown."
    )


@pytest.mark.parametrize(("labeled", "holdout", "count"), [(5, 0.2, "1 of the 5"), (9, 0.2, "2 of the 9"), (9, 0, "")])
def test_how_many_cases_will_be_held_out_is_said(labeled: int, holdout: float, count: str) -> None:
    import types

    from LASegColearnSlicer.panel_texts import validationNote

    cases = [types.SimpleNamespace(role=role) for role in ["labeled"] * labeled + ["unlabeled"]]
    said = validationNote(cases, holdout)  # type: ignore[arg-type]
    assert count in said and ("will be held out" in said) == bool(count)


def test_too_few_cases_are_said_before_anything_starts(filled: Any) -> None:
    filled.onRoleChosen("case_003", "left out")
    filled.onRoleChosen("case_004", "left out")
    assert not filled.ui.trainButton.enabled
    wanted = "Wanted at least 2 unlabeled cases, found 1. Add some, or choose the method supervised."
    assert filled.ui.trainButton.toolTip == filled.ui.estimateLabel.text == wanted
    filled.ui.methodComboBox.setCurrentText("supervised")
    assert filled.ui.trainButton.enabled and filled.ui.estimateLabel.text.startswith("4 cases.")
    filled.onRoleChosen("case_001", "validation")
    assert filled.ui.trainButton.enabled, "Of labels alone one is enough, as for the engine."
    filled.onRoleChosen("case_003", "unlabeled")
    filled.ui.methodComboBox.setCurrentText("colearning")
    wanted = "Wanted at least 2 labeled cases besides those for validation, found 1."
    assert filled.ui.estimateLabel.text.startswith(wanted)
    assert filled.ui.trainButton.toolTip == filled.ui.estimateLabel.text


_IMAGE = "<img src='//server/x.png'> & 1 < 2.nrrd"


def test_a_name_that_looks_like_html_is_shown_as_it_is(
    panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer
    from PySide6.QtGui import Qt, QTextDocument

    scan = Path("/scans") / _IMAGE.rpartition("/")[2]
    panel.openStudy(str(tmp_path / "study"))
    panel.logic.study.addScan(scan, name=_IMAGE)
    panel.update()
    tip = panel.ui.casesTable.item(0, 0).toolTip()
    document = QTextDocument()
    document.setHtml(tip)
    assert Qt.mightBeRichText(tip) and document.toPlainText() == f"case_001: {scan.name}"
    assert "<img" not in tip
    said: list[str] = []
    monkeypatch.setattr(slicer.util, "infoDisplay", lambda text, **_: said.append(text))
    panel.ui.statusLabel.text = f"{_IMAGE}\ncannot be read"
    panel.workStatus.showDetails()
    document.setHtml(said[0])
    assert document.toPlainText() == f"{_IMAGE}\ncannot be read"


def test_every_label_that_is_filled_takes_its_text_as_it_is(panel: Any) -> None:
    from PySide6.QtCore import Qt
    from PySide6.QtWidgets import QLabel

    named = {name: bare(widget) for name, widget in vars(panel.ui).items()}
    filled = {name: label for name, label in named.items() if isinstance(label, QLabel) and label.wordWrap()}
    del filled["settingsHelpLabel"]
    assert len(filled) == 12
    assert {name for name, label in filled.items() if label.textFormat() != Qt.TextFormat.PlainText} == set()


def test_every_method_can_be_chosen_and_says_what_it_does(panel: Any) -> None:
    from LASegColearnLib.methods import method_names, method_titles

    ui = panel.ui
    assert [ui.methodComboBox.itemText(n) for n in range(ui.methodComboBox.count)] == method_names()
    assert ui.methodTitleLabel.text == method_titles()["colearning"]
    ui.methodComboBox.setCurrentText("ua_mt")
    assert ui.methodTitleLabel.text == method_titles()["ua_mt"]
    assert panel.trainingSection.options().method == "ua_mt"


def test_a_study_folder_that_cannot_be_written_to_is_a_sentence(panel: Any) -> None:
    panel.ui.studyFolderButton.directory = "/proc/study"
    assert "The study's folder cannot be written to" in panel.ui.inputsMessageLabel.text
    assert not panel.logic.hasStudy


def test_an_empty_scene_and_a_scan_in_a_transform_are_sentences(panel: Any, phantoms: Path, tmp_path: Path) -> None:
    import slicer

    from LASegColearnLib.cohort import load_cohort

    panel.ui.studyFolderButton.directory = str(tmp_path / "study")
    panel.ui.addFromSceneButton.click()
    assert panel.ui.inputsMessageLabel.text.startswith("Scene: Wanted scans that are not in the study yet, found none")
    volume = slicer.util.loadVolume(str(load_cohort(phantoms / "cohort.json").unlabeled[0].image))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    volume.SetAndObserveTransformNodeID(transform.GetID())
    panel.ui.addFromSceneButton.click()
    assert "inside a transform that is not hardened" in panel.ui.inputsMessageLabel.text
    assert panel.logic.study.cases == ()


def test_labels_of_the_scene_that_are_not_used_are_named(panel: Any, phantoms: Path, tmp_path: Path) -> None:
    import slicer

    from LASegColearnLib.cohort import load_cohort

    panel.ui.studyFolderButton.directory = str(tmp_path / "study")
    cases = load_cohort(phantoms / "cohort.json").labeled
    slicer.util.loadVolume(str(cases[0].image)).SetName("patient 1")
    slicer.util.loadVolume(str(cases[1].image)).SetName("patient 2_label")
    slicer.util.loadSegmentation(str(cases[0].label)).SetName("patient 1 la")
    slicer.util.loadSegmentation(str(cases[1].label)).SetName("of nobody")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "a map")
    panel.ui.addFromSceneButton.click()
    said = panel.ui.inputsMessageLabel.text.splitlines()
    assert said[0].startswith("Added as scans, although their names look like labels: patient 2_label.")
    assert said[1].startswith("Not used as labels: a map, of nobody. ") and len(said) == 2
    assert [case.role for case in panel.logic.study.cases] == ["labeled", "unlabeled"]


def test_files_and_folders_are_dropped_onto_the_table(panel: Any, phantoms: Path, tmp_path: Path) -> None:
    from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
    from PySide6.QtGui import QDragEnterEvent, QDropEvent
    from PySide6.QtWidgets import QApplication

    from slicer_stand_in.pythonqt import bare

    panel.ui.studyFolderButton.directory = str(tmp_path / "study")
    content = QMimeData()
    content.setUrls([QUrl.fromLocalFile(str(phantoms / "cohort.json")), QUrl.fromLocalFile(str(ROOT / "README.md"))])
    viewport = bare(panel.ui.casesTable.viewport())
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    QApplication.sendEvent(viewport, QDragEnterEvent(QPointF(5, 5).toPoint(), copy, content, left, none))
    QApplication.sendEvent(viewport, QDropEvent(QPointF(5, 5), copy, content, left, none))
    assert len(panel.logic.study.cases) == 6
    assert panel.ui.casesTable.rowCount == 6
    assert "README.md: Wanted a folder, a cohort file or a scan" in panel.ui.inputsMessageLabel.text


def test_a_scene_that_asks_for_a_method_of_somebody_elses_opens_with_the_usual(
    opened: tuple[Any, Any], tmp_path: Path
) -> None:
    panel, frame = opened
    panel.ui.studyFolderButton.directory = str(tmp_path / "study")
    stored = panel.logic.getParameterNode().parameterNode
    leave(panel)
    stored.SetParameter("method", "my_method")
    stored.SetParameter("preset", "of tomorrow")
    enter(panel, frame)
    assert (panel.trainingSection.options().method, panel.trainingSection.options().preset) == ("colearning", "cpu")
    said = panel.ui.trainMessageLabel.text
    assert said == (
        "Not available here: preset of tomorrow, method my_method, which this scene asks for. The defaults are used "
        "instead."
    )


def test_labels_of_no_scan_are_said_and_not_logged(
    panel: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    panel.ui.studyFolderButton.directory = str(tmp_path / "study")
    for folder, name in (("imagesTr", "a_0000.nrrd"), ("labelsTr", "a.nrrd"), ("labelsTr", "Doe.nrrd")):
        (tmp_path / "set" / folder / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / folder / name).touch()
    panel.onDropped([str(tmp_path / "set")])
    assert len(panel.logic.study.cases) == 1
    assert panel.ui.inputsMessageLabel.text == "1 files in the folder of labels match no scan: Doe.nrrd"
    assert "Doe" not in caplog.text


def test_labels_that_come_in_as_scans_are_said(panel: Any, tmp_path: Path) -> None:
    panel.ui.studyFolderButton.directory = str(tmp_path / "study")
    for name in ("p1.nrrd", "p1_label.nrrd", "p2.nrrd", "p2-mask.nrrd"):
        (tmp_path / "scans" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "scans" / name).touch()
    panel.onDropped([str(tmp_path / "scans")])
    assert len(panel.logic.study.cases) == 4
    said = panel.ui.inputsMessageLabel.text
    assert said == (
        "Added as scans, although their names look like labels: p1_label, p2-mask. Remove those that are labels."
    )


def test_a_double_click_loads_and_shows_a_case_and_removing_deletes_nothing(
    panel: Any, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    panel.ui.studyFolderButton.directory = str(tmp_path / "study")
    panel.onDropped([str(phantoms / "cohort.json")])
    from slicer_stand_in.pythonqt import bare

    bare(panel.ui.casesTable).cellDoubleClicked.emit(0, 0)
    case = panel.logic.study.cases[0]
    assert panel.ui.inputsMessageLabel.text == ""
    assert panel.logic.cases.volumeNode(case.id) is not None
    assert panel.ui.labelSelector.currentNode() is panel.logic.cases.labelSource(case.id)[0]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1
    panel.caseTable.select([case.id])
    asked: list[str] = []
    # list.append returns nothing, which is a no.
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", asked.append)
    panel.ui.removeButton.click()
    assert len(panel.logic.study.cases) == 6
    assert asked == ["Remove 1 case(s) from the study? No file is deleted."]
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    panel.ui.removeButton.click()
    assert len(panel.logic.study.cases) == 5
    panel.ui.predictShownButton.enabled = True
    panel.ui.predictShownButton.click()
    assert "No case is shown" in panel.ui.predictMessageLabel.text
    assert case.scan.exists() and case.label.file.exists()


def test_an_edited_label_is_written_before_training_and_the_earlier_one_is_kept(filled: Any) -> None:
    import slicer

    cases = filled.logic.cases
    node, segmentId = cases.labelSource("case_001")
    volume = cases.volumeNode("case_001")
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume)
    array[:2] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segmentId, volume)
    assert cases.refreshLabels() == ["case_001"]
    assert cases.refreshLabels() == []
    earlier = filled.logic.study.folder / "labels" / "earlier"
    assert [p.name for p in earlier.iterdir()] == ["case_001-001.seg.nrrd"]
    # The oldest may be deleted; none that is left is replaced.
    (earlier / "case_001-001.seg.nrrd").rename(earlier / "case_001-003.seg.nrrd")
    kept = (earlier / "case_001-003.seg.nrrd").read_bytes()
    for end in (3, 4):
        array = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume)
        array[:end] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segmentId, volume)
        assert cases.refreshLabels() == ["case_001"]
    assert sorted(p.name for p in earlier.iterdir()) == [f"case_001-00{number}.seg.nrrd" for number in (3, 4, 5)]
    assert (earlier / "case_001-003.seg.nrrd").read_bytes() == kept


def test_a_state_is_the_segments_own_state(filled: Any) -> None:
    import slicer

    logic = slicer.vtkSlicerSegmentationsModuleLogic
    node, segmentId = filled.logic.cases.labelSource("case_001")
    filled.onStateChosen("case_001", "flagged")
    assert logic.GetSegmentStatus(node.GetSegmentation().GetSegment(segmentId)) == logic.Flagged
    logic.SetSegmentStatus(node.GetSegmentation().GetSegment(segmentId), logic.InProgress)
    filled.logic.cases.readStates()
    assert filled.logic.study.case("case_001").state == "in progress"


def test_the_states_of_an_older_scene_do_not_replace_the_studys(filled: Any) -> None:
    import slicer

    logic = slicer.vtkSlicerSegmentationsModuleLogic
    node, segmentId = filled.logic.cases.labelSource("case_001")
    filled.onStateChosen("case_001", "in progress")
    # As from another scene, or before this one was opened again.
    filled.logic.study.setState("case_001", "flagged")
    filled.logic.cases.readStates()
    assert filled.logic.study.case("case_001").state == "flagged"
    assert logic.GetSegmentStatus(node.GetSegmentation().GetSegment(segmentId)) == logic.Flagged
    logic.SetSegmentStatus(node.GetSegmentation().GetSegment(segmentId), logic.Completed)
    filled.logic.cases.readStates()
    assert filled.logic.study.case("case_001").state == "completed"
    # Nor after the label was edited and written.
    volume = filled.logic.cases.volumeNode("case_001")
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume)
    array[:3] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segmentId, volume)
    assert filled.logic.cases.refreshLabels() == ["case_001"]
    filled.logic.study.setState("case_001", "flagged")
    filled.logic.cases.readStates()
    assert filled.logic.study.case("case_001").state == "flagged"
    # Nor by the state in a label's own file.
    slicer.mrmlScene.RemoveNode(node)
    node = filled.logic.cases.loadLabel("case_001")
    segment = node.GetSegmentation().GetSegment(filled.logic.cases.labelSource("case_001")[1])
    assert logic.GetSegmentStatus(segment) == logic.Flagged


def test_a_flag_that_the_editor_has_set_stays_and_is_seen_on_entering(filled: Any, opened: tuple[Any, Any]) -> None:
    import slicer

    logic = slicer.vtkSlicerSegmentationsModuleLogic
    for caseId in ("case_001", "case_002"):
        node, segmentId = filled.logic.cases.labelSource(caseId)
        logic.SetSegmentStatus(node.GetSegmentation().GetSegment(segmentId), logic.Flagged)
    filled.logic.useAsLabel("case_001", *filled.logic.cases.labelSource("case_001"))
    assert filled.logic.study.case("case_001").state == "flagged"
    node, segmentId = filled.logic.cases.labelSource("case_001")
    logic.SetSegmentStatus(node.GetSegmentation().GetSegment(segmentId), logic.Completed)
    filled.logic.useAsLabel("case_001", node, segmentId)
    assert filled.logic.study.case("case_001").state == "completed", "Nor does a flag come back that was taken off."
    leave(filled)
    enter(filled, opened[1])
    assert filled.logic.study.case("case_002").state == "flagged"


def test_what_the_console_starts_and_ends_is_seen_in_the_panel(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from LASegColearnSlicer.training_options import TrainingOptions

    filled.logic.train(TrainingOptions("demo", minutes=None, iterations=10_000, settings=SMALL))
    assert filled.ui.cancelButton.enabled and not filled.ui.trainButton.enabled
    filled.logic.cancel()
    _until(lambda: not filled.logic.isRunning)
    assert not filled.ui.cancelButton.enabled and filled.ui.trainButton.enabled


def test_closing_slicers_window_ends_a_training_that_the_console_waits_for(
    filled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    closed: list[bool] = []
    monkeypatch.setattr(filled.logic, "close", lambda: closed.append(True))
    bare(slicer.app).lastWindowClosed.emit()
    assert closed == [True]


def test_a_role_of_validation_for_what_a_model_has_learned_from_is_said(filled: Any) -> None:
    from LASegColearnLib.run_folder import write_json_atomically

    # Of a case that was not predicted as well.
    run = filled.logic.study.newRun()
    run.checkpoints.mkdir(parents=True)
    write_json_atomically(run.cohort, {"labeled": [{"id": "case_001"}], "unlabeled": [], "validation": []})
    run.last_checkpoint.touch()
    filled.onRoleChosen("case_002", "validation")
    assert filled.ui.inputsMessageLabel.text == ""
    filled.onRoleChosen("case_001", "validation")
    assert "A model of this study was trained on this case" in filled.ui.inputsMessageLabel.text


def test_a_role_that_needs_a_label_is_refused_and_shown_as_it_was(filled: Any) -> None:
    filled.onRoleChosen("case_003", "labeled")
    assert "Wanted a label for the role labeled" in filled.ui.inputsMessageLabel.text
    assert filled.ui.casesTable.cellWidget(2, 1).currentText == "unlabeled"


def test_a_segment_becomes_a_label(filled: Any) -> None:
    node, segmentId = filled.logic.cases.labelSource("case_001")
    filled.logic.study.setLabel("case_001", None)
    assert filled.logic.study.case("case_001").role == "unlabeled"
    filled.ui.labelSelector.setCurrentNode(node)
    filled.ui.labelSelector.setCurrentSegmentID(segmentId)
    filled.caseTable.select(["case_003"])
    filled.ui.useLabelButton.click()
    assert "belongs to the case Phantom phantom-01." in filled.ui.inputsMessageLabel.text
    import slicer

    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    own.GetSegmentation().CopySegmentFromSegmentation(node.GetSegmentation(), segmentId)
    filled.ui.labelSelector.setCurrentNode(own)
    filled.ui.labelSelector.setCurrentSegmentID(segmentId)
    filled.ui.useLabelButton.click()
    assert "lies outside of the scan Phantom phantom-03" in filled.ui.inputsMessageLabel.text
    filled.ui.labelSelector.setCurrentNode(node)
    filled.ui.labelSelector.setCurrentSegmentID(segmentId)
    filled.caseTable.select(["case_001"])
    filled.ui.useLabelButton.click()
    assert filled.ui.inputsMessageLabel.text == ""
    assert filled.logic.study.case("case_001").role == "labeled"


def test_of_a_segmentation_that_is_chosen_the_left_atrium_is_chosen_where_it_can_be_told(filled: Any) -> None:
    import slicer

    node, segmentId = filled.logic.cases.labelSource("case_001")
    filled.logic.study.setLabel("case_001", None)
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    for name in ("Wall", "Left atrium"):
        own.GetSegmentation().CopySegmentFromSegmentation(node.GetSegmentation(), segmentId)
        own.GetSegmentation().GetNthSegment(own.GetSegmentation().GetNumberOfSegments() - 1).SetName(name)
    selector = filled.ui.labelSelector
    selector.setCurrentNode(own)
    assert own.GetSegmentation().GetSegment(selector.currentSegmentID()).GetName() == "Left atrium"
    for number in (0, 1):
        segment = own.GetSegmentation().GetNthSegment(number)
        segment.SetName(f"Chamber {number}")
        segment.SetTerminology("")
    selector.setCurrentNode(None)
    selector.setCurrentNode(own)
    filled.caseTable.select(["case_001"])
    filled.ui.useLabelButton.click()
    assert "No segment is chosen. Choose the segment of the left atrium." in filled.ui.inputsMessageLabel.text


def test_another_cases_label_does_not_stay_chosen(filled: Any) -> None:
    filled.showCase("case_001")
    assert filled.ui.labelSelector.currentNode() is filled.logic.cases.labelSource("case_001")[0]
    filled.showCase("case_003")
    assert filled.ui.labelSelector.currentNode() is None
    filled.caseTable.select(["case_003"])
    filled.ui.useLabelButton.click()
    assert "No segmentation is chosen." in filled.ui.inputsMessageLabel.text
    assert filled.logic.study.case("case_003").label is None


def test_nobody_paints_into_a_case_while_another_is_shown(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[bool] = []
    filled.caseTable.select(["case_001"])
    filled.ui.correctButton.click()
    assert filled.ui.correctMessageLabel.text == ""
    monkeypatch.setattr(filled.correctSection.editor, "leave", lambda: left.append(True))
    filled.showCase("case_001")
    assert left == []
    filled.showCase("case_002")
    assert left == [True]


def test_what_is_shown_with_a_case_changes_at_once(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, bool, bool]] = []

    def show(case: str, *, surface: bool, uncertainty: bool) -> tuple[Any, None]:
        shown.append((case, surface, uncertainty))
        return filled.logic.cases.volumeNode(case), None

    monkeypatch.setattr(filled.logic, "showWhatIsThere", show)
    filled.ui.showSurfaceCheckBox.click()
    assert shown == []
    filled.showCase("case_002")
    filled.ui.labelSelector.setCurrentNode(filled.logic.cases.labelSource("case_001")[0])
    filled.ui.showUncertaintyCheckBox.click()
    filled.ui.showSurfaceCheckBox.click()
    # What was chosen meanwhile stays chosen.
    assert filled.ui.labelSelector.currentNode() is filled.logic.cases.labelSource("case_001")[0]
    assert shown == [("case_002", False, True), ("case_002", False, False), ("case_002", True, False)]


def test_the_shown_case_is_not_that_of_the_next_study(filled: Any, tmp_path: Path) -> None:
    filled.showCase("case_001")
    filled.openStudy(str(tmp_path / "another"))
    filled.ui.showSurfaceCheckBox.click()
    assert filled.ui.inputsMessageLabel.text == ""
    filled.ui.predictShownButton.enabled = True
    filled.ui.predictShownButton.click()
    assert "No case is shown" in filled.ui.predictMessageLabel.text


def test_a_model_that_was_not_judged_is_said_when_its_study_is_opened(panel: Any, tmp_path: Path) -> None:
    from LASegColearnSlicer.rounds import startRound

    panel.openStudy(str(tmp_path / "study"))
    assert not panel.ui.resumeButton.enabled
    study, runs = panel.logic.study, []
    for _ in range(2):
        run = study.newRun()
        startRound(run, None, runs[-1] if runs else None, ["case_001"], 2)
        run.checkpoints.mkdir()
        run.last_checkpoint.touch()
        files = {"image": run.path / "scan.nrrd", "label": run.path / "label.nrrd"}
        for file in files.values():
            file.touch()
        save_cohort(Cohort((), (), (Case("case_002", **files),) if runs else ()), run.cohort)
        ended = {"event": "finished", "iteration": 4, "complete": True, "elapsed_seconds": 9.5}
        run.events.write_text(json.dumps(ended) + "\n", encoding="utf-8")
        runs.append(run)
    study.chooseRun(runs[0])
    panel.openStudy(str(study.folder))
    said = "Model 002 has not been evaluated on the validation cases yet. Press Resume to evaluate it."
    assert panel.ui.trainMessageLabel.text == f"{said} Until then, model 001 stays current."
    assert panel.ui.resumeButton.enabled
    tips = [panel.ui.roundsTable.item(row, 0).toolTip() for row in range(2)]
    assert "no validation cases" in tips[0] and "Not evaluated on its 1 validation cases yet" in tips[1]


def test_a_wrong_setting_and_a_failed_training_are_sentences(filled: Any) -> None:
    table = filled.ui.settingsTable
    row = next(row for row in range(table.rowCount) if table.item(row, 0).text() == "filters")
    table.item(row, 1).setText("many")
    filled.ui.trainButton.click()
    assert "filters: Wanted" in filled.ui.trainMessageLabel.text
    assert not filled.logic.isRunning
    table.item(row, 1).setText("2")
    filled.ui.deviceComboBox.setCurrentText("cuda")
    filled.ui.trainButton.click()
    _until(lambda: not filled.logic.isRunning)
    import torch

    if not torch.cuda.is_available():
        assert "cuda was asked for" in filled.ui.statusLabel.text
        assert "Traceback" not in filled.ui.statusLabel.text


def test_every_setting_of_every_preset_is_shown_and_read_back(panel: Any) -> None:
    from LASegColearnLib.settings import preset
    from LASegColearnSlicer.settings_table import settingHelp, settingTexts

    for name in ("cpu", "paper", "demo"):
        texts = settingTexts(name)
        assert preset(name).with_text(f"{key}={text}" for key, text in texts.items()) == preset(name)
        assert set(texts) <= set(settingHelp())


@pytest.mark.parametrize(
    "kept", ["", "{", "null", "[]", '{"preset": "cpu"}', '{"preset": "cpu", "changed": {"filters": 4}}']
)
def test_settings_that_another_version_has_kept_in_a_scene_are_the_presets(panel: Any, kept: str) -> None:
    from LASegColearnSlicer.settings_table import settingTexts

    panel._parameterNode.changedSettings = kept
    panel.trainingSection.showSettings()
    table = panel.ui.settingsTable
    shown = {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount)}
    assert shown == settingTexts("cpu")


def test_a_disk_that_does_not_answer_is_a_sentence(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(self: Study) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Study, "currentRun", property(stale))
    filled.update()
    assert "reports errors" in filled.ui.inputsMessageLabel.text


def test_a_study_that_was_moved_away_is_said_and_not_made_anew(panel: Any, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    panel.ui.studyFolderButton.directory = str(folder)
    panel.logic.closeStudy()
    shutil.rmtree(folder)
    panel.initializeParameterNode()
    assert "was not found" in panel.ui.inputsMessageLabel.text
    assert not folder.exists()


def test_a_scene_whose_study_is_gone_does_not_leave_the_one_before_open(panel: Any, tmp_path: Path) -> None:
    panel.openStudy(str(tmp_path / "study"))
    panel.onSceneStartClose(None, None)
    panel.onSceneEndClose(None, None)
    panel._parameterNode.studyFolder = str(tmp_path / "moved away")
    panel.onSceneEndImport(None, None)
    assert not panel.logic.hasStudy
    assert panel.ui.studyFolderButton.text == "Choose a study folder ..."
    assert not panel.ui.addFolderButton.enabled
    assert "was not found" in panel.ui.inputsMessageLabel.text
    assert panel._parameterNode.studyFolder == str(tmp_path / "moved away")
    assert (tmp_path / "study" / "study.json").exists()


def test_a_scene_that_is_opened_while_the_engine_is_at_work_keeps_its_study(
    panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("B", "A"):
        panel.openStudy(str(tmp_path / name))
    panel.onSceneStartClose(None, None)
    panel.onSceneEndClose(None, None)
    panel._parameterNode.studyFolder = str(tmp_path / "B")
    with monkeypatch.context() as atWork:
        atWork.setattr(type(panel.logic), "isRunning", property(lambda logic: True))
        panel.onSceneEndImport(None, None)
        panel.initializeParameterNode()
        assert panel.logic.study.folder == tmp_path / "A"
        assert panel._parameterNode.studyFolder == str(tmp_path / "B")
    panel.initializeParameterNode()
    assert panel.logic.study.folder == tmp_path / "B"


def test_a_scene_that_was_saved_while_painting_is_not_painted_into_when_it_is_read(panel: Any) -> None:
    import slicer

    panel.enter()
    panel.onSceneEndImport(None, None)
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentEditorNode")
    node.SetActiveEffectName("Paint")
    panel.onSceneEndImport(None, None)
    assert not node.GetActiveEffectName()
    leave(panel)
    bare(panel.parent).entered = False
    node.SetActiveEffectName("Paint")
    panel.onSceneEndImport(None, None)
    assert not node.GetActiveEffectName()


def test_a_case_whose_label_is_gone_is_shown_all_the_same_and_that_is_said(filled: Any) -> None:
    import slicer

    volume = filled.logic.cases.volumeNode("case_001")
    slicer.mrmlScene.RemoveNode(filled.logic.cases.labelSource("case_001")[0])
    filled.logic.study.case("case_001").label.file.unlink()
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    with pytest.raises(InputError, match="The label's file .* was not found"):
        filled.logic.showCase("case_001")
    assert view.GetBackgroundVolumeID() == volume.GetID()
    filled.showCase("case_002")
    filled.doubtTour._places = [(0.0, 0.0, 0.0)]
    filled.showCase("case_001")
    assert "was not found" in filled.ui.inputsMessageLabel.text
    assert (filled._shownCase, filled.doubtTour._places) == ("case_001", ())
    assert filled.ui.labelSelector.currentNode() is None, "Another case's label must not stay chosen."


def test_a_segmentation_that_is_dropped_is_no_scan(panel: Any, tmp_path: Path) -> None:
    panel.openStudy(str(tmp_path / "study"))
    (tmp_path / "la.seg.nrrd").touch()
    panel.onDropped([str(tmp_path / "la.seg.nrrd")])
    assert "la.seg.nrrd: Wanted a scan, found a segmentation." in panel.ui.inputsMessageLabel.text
    assert panel.logic.study.cases == ()


def test_missing_software_is_said_and_installed_on_a_click(panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    import slicer

    real, there = importlib.metadata.version, False

    def version(name: str) -> str:
        if name in ("torch", "monai") and not there:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    panel.showDependencies()
    assert "not installed yet: torch, monai (" in panel.ui.dependenciesLabel.text
    assert panel.ui.deviceLabel.text == "PyTorch is not installed yet"
    before, asked = panel.ui.dependenciesLabel.text, []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", asked.append)
    panel.ui.installButton.click()
    import qt

    chosen = ""
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_arguments: chosen)
    panel.ui.installOfflineButton.click()
    assert len(asked) == 1 and panel.ui.dependenciesLabel.text == before
    chosen = str(ROOT / "docs")
    panel.ui.installOfflineButton.click()
    assert "It has no wheels for" in panel.ui.dependenciesLabel.text
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    panel.ui.installButton.click()
    assert "extension PyTorch is not installed. Install it in the Extensions Manager" in panel.ui.dependenciesLabel.text
    there = True
    panel.showDependencies()
    assert not panel.ui.dependenciesCollapsibleButton.visible


def test_opening_the_panel_imports_no_pytorch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['monai'] = None\n"
        "from slicer_stand_in.application import openPanel, startSlicer\n"
        "startSlicer(); widget, frame = openPanel(); widget.cleanup(); print('opened')"
    )
    path = f"{ROOT / 'LASegColearn'}:{ROOT / 'Testing'}"
    import os

    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, encoding="utf-8"
    )
    assert result.stdout.strip().endswith("opened"), result.stderr


def test_the_console_example_of_the_user_guide_runs_as_written_but_for_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    core = startSlicer()
    import slicer

    core.scene.Clear(0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    slicer.app.temporaryPath = str(tmp_path)
    guide = (ROOT / "docs" / "user-guide.md").read_text("utf-8")
    found = re.search(r"<!-- console -->\n```python\n(.*?)```", guide, re.DOTALL)
    assert found
    names: dict[str, Any] = {"slicer": slicer}
    # Iterations, so that it finds something however busy the machine is, and coarse voxels, which take less time.
    small = {**SMALL, "filters": "4", "learning_rate": "0.1"}
    shorter = found.group(1).replace("minutes=0.5", f"minutes=None, iterations=60, settings={small}")
    shorter = shorter.replace("minutes=0.2", "iterations=5")
    assert shorter.count("iterations=") == 2
    exec(shorter, names)
    printed = capsys.readouterr().out
    assert "finished" in printed
    logic = names["logic"]
    assert logic.display.teacherNode(names["caseId"]) is not None
    assert logic.study.case(names["caseId"]).role == "labeled"
    assert [(one.run, one.startedFrom) for one in logic.rounds] == [("001", None), ("002", "001")]
    assert logic.study.currentRun.path.name == "001"


def test_the_help_leads_to_the_user_guide_of_the_extensions_homepage() -> None:
    startSlicer()
    import LASegColearn
    from slicer_stand_in.scripted_module import qSlicerScriptedLoadableModule

    module = qSlicerScriptedLoadableModule(LASegColearn.__file__)
    LASegColearn.LASegColearn(module)
    homepage = re.search(r'EXTENSION_HOMEPAGE "(.*)"', (ROOT / "CMakeLists.txt").read_text("utf-8"))
    assert homepage and (ROOT / "docs" / "user-guide.md").exists()
    assert module.helpText.endswith(f'<p><a href="{homepage.group(1)}/blob/main/docs/user-guide.md">User guide</a></p>')


def test_reload_and_test_passes() -> None:
    startSlicer()
    from LASegColearn import LASegColearnTest

    LASegColearnTest().runTest()


def test_sample_data_offers_phantoms_made_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys
    import types

    core = startSlicer()
    import slicer

    import LASegColearn

    core.scene.Clear(0)
    offered: dict[str, Any] = {}

    class SampleDataLogic:
        # As Slicer's SampleData.py: without these three its source cannot be made.
        @staticmethod
        def registerCustomSampleDataSource(
            category: str,
            sampleName: str,
            uris: str,
            fileNames: str,
            nodeNames: str,
            thumbnailFileName: str,
            customDownloader: Any,
        ) -> None:
            offered.update(name=sampleName, thumbnail=thumbnailFileName, make=customDownloader)

    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=SampleDataLogic))
    slicer.app.temporaryPath = str(tmp_path)
    LASegColearn.registerSampleData()
    assert Path(offered["thumbnail"]).is_file()
    nodes = offered["make"](None)
    assert len(nodes) == 12
    assert core.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 6


def test_a_scan_that_slicer_cannot_read_is_a_sentence(panel: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.nrrd").write_text("no scan")
    panel.openStudy(str(tmp_path / "study"))
    panel.logic.study.addScan(tmp_path / "broken.nrrd")
    panel.showCase("case_001")
    assert "case_001: Slicer cannot read broken.nrrd. Convert it to NRRD." in panel.ui.inputsMessageLabel.text


def test_the_views_stay_at_their_place_while_the_same_case_is_shown(filled: Any) -> None:
    import numpy as np
    import slicer

    from predicted_case import writePrediction
    from slicer_stand_in.pythonqt import bare

    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    manager = bare(slicer.app.layoutManager())

    def moved(caseId: str) -> tuple[int, int]:
        """How often showing the case moves the slice views and the 3D views."""
        before = manager.sliceResets, manager.threeDResets
        filled.showCase(caseId)
        return manager.sliceResets - before[0], manager.threeDResets - before[1]

    assert moved("case_001") == (1, 1)
    assert moved("case_001") == (0, 0)
    assert moved("case_002") == (1, 1)
    voxels = np.zeros(slicer.util.arrayFromVolume(filled.logic.cases.volumeNode("case_002")).shape, bool)
    voxels[4:8, 4:8, 4:8] = True
    scan = filled.logic.study.case("case_002").scan
    writePrediction(filled.logic, "case_002", scan, voxels, None)
    assert moved("case_002") == (0, 1), "The 3D views have looked at nothing so far."
    writePrediction(filled.logic, "case_002", scan, np.roll(voxels, 2, axis=0), None, run="002")
    assert moved("case_002") == (0, 0), "Who has turned the surface sees the next one from there."
