"""A study without a widget: cohorts from nodes, refusals, and what is told of a training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from LASegColearnLib.cohort import load_cohort
from LASegColearnLib.errors import InputError
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.segmentation_files import write_segmentation
from LASegColearnSlicer.engine_process import EngineOutcome, EngineState
from LASegColearnSlicer.rounds import Round
from LASegColearnSlicer.scene_export import labelImage, scanImage
from LASegColearnSlicer.session import Session
from LASegColearnSlicer.study import LabelSource, Study
from LASegColearnSlicer.training_options import TrainingOptions
from LASegColearnSlicer.training_plots import TrainingPlots
from LASegColearnSlicer.training_progress import TrainingProgress, progressOf
from mrml_scene import SlicerCore


def _volume(name: str, *, labeled: bool = False, seed: int = 0) -> Any:
    import slicer

    voxels = np.random.default_rng(seed).integers(0, 900, (10, 12, 14), dtype=np.int16)
    node = slicer.util.addVolumeFromArray(voxels, name=name)
    if not labeled:
        return node
    mask = np.zeros(voxels.shape, np.uint8)
    mask[3:7, 3:9, 4:11] = 1
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{name} label")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(node)
    segmentId = segmentation.GetSegmentation().AddEmptySegment("la", "LA")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segmentId, node)
    return node, segmentation, segmentId


def test_a_cohort_is_set_up_from_nodes_and_left_alone_the_second_time(session: Session, tmp_path: Path) -> None:
    labeled = [_volume("A", labeled=True), _volume("B", labeled=True, seed=1)]
    unlabeled, validation = [_volume("C", seed=2)], [_volume("D", labeled=True, seed=3)]
    for _ in range(2):
        study = session.setupCohort(tmp_path / "s", labeled=labeled, unlabeled=unlabeled, validation=validation)
    assert [(case.name, case.role) for case in study.cases] == [
        ("A", "labeled"),
        ("B", "labeled"),
        ("D", "validation"),
        ("C", "unlabeled"),
    ]
    assert sorted(path.name for path in (study.folder / "scans").iterdir()) == [
        f"case_00{n}.nrrd" for n in (1, 2, 3, 4)
    ]


def test_all_that_is_wrong_is_said_at_once_and_the_rest_is_there(session: Session, tmp_path: Path) -> None:
    good, moved = _volume("Good"), _volume("Moved", seed=1)
    transform = moved.GetScene().AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    moved.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(InputError) as raised:
        session.setupCohort(tmp_path / "s", labeled=[], unlabeled=[moved, None, good])
    assert len(raised.value.problems) == 2
    assert [case.name for case in session.study.cases] == ["Good"]


def test_a_case_that_was_moved_in_the_scene_is_refused_with_a_remedy(session: Session, tmp_path: Path) -> None:
    """Its file has not moved: labels drawn on it would not lie on what the engine reads."""
    import vtk

    volume, segmentation, segmentId = _volume("A", labeled=True)
    session.setupCohort(tmp_path / "s", labeled=[(volume, segmentation, segmentId)], unlabeled=[])
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 12.5)
    volume.ApplyTransformMatrix(matrix)
    for act in (
        lambda: session.cases.load("case_001"),
        lambda: session.cases.setLabel("case_001", segmentation, segmentId),
        session.cases.refreshLabels,
    ):
        with pytest.raises(InputError, match="A: The scan was moved or resampled in the scene.*show the case again"):
            act()
    volume.GetScene().RemoveNode(volume)
    assert session.cases.load("case_001").GetName() == "A"
    session.cases.refreshLabels()


def test_another_studys_nodes_are_not_this_studys(session: Session, tmp_path: Path) -> None:
    volume = _volume("A")
    session.setupCohort(tmp_path / "one", labeled=[], unlabeled=[volume])
    session.openStudy(tmp_path / "two")
    assert session.cases.caseOf(volume) is None
    assert [candidate.volume for candidate in session.cases.candidates()] == [volume]


@pytest.mark.parametrize(
    ("chosen", "taken"),
    [("", True), ("SCT^85756007^Tissue", True), ("SCT^82471001^Left atrium", True), ("SCT^15825003^Aorta", False)],
)
def test_the_only_segment_is_the_left_atrium_unless_it_was_chosen_to_be_something_else(
    chosen: str, taken: bool, session: Session, tmp_path: Path
) -> None:
    _, segmentation, segmentId = _volume("A", labeled=True)
    segment = segmentation.GetSegmentation().GetSegment(segmentId)
    segment.SetName("Segment_1")
    segment.SetTerminology(f"General Anatomy list~SCT^123037004^Anatomical Structure~{chosen}~^^" if chosen else "")
    session.openStudy(tmp_path / "s")
    assert [candidate.segmentId for candidate in session.cases.candidates()] == [segmentId if taken else None]


@pytest.mark.parametrize(
    ("name", "found"),
    [("A", "A"), ("A.seg", "A"), ("A_1 label", "A_1"), ("A-la", "A"), ("AB label", None), ("Label A", None)],
)
def test_a_segmentation_from_a_file_belongs_to_the_scan_that_it_is_named_after(
    name: str, found: str | None, session: Session, tmp_path: Path
) -> None:
    _, segmentation, segmentId = _volume("A", labeled=True)
    _volume("A_1", seed=1)
    segmentation.SetNodeReferenceID(segmentation.GetReferenceImageGeometryReferenceRole(), None)
    segmentation.SetName(name)
    session.openStudy(tmp_path / "s")
    taken = {c.volume.GetName(): c.segmentId for c in session.cases.candidates()}
    assert taken == {scan: segmentId if scan == found else None for scan in ("A", "A_1")}


def test_of_two_scans_of_one_name_none_is_taken_for_a_segmentations(session: Session, tmp_path: Path) -> None:
    _, segmentation, _ = _volume("A", labeled=True)
    _volume("A", seed=1)
    segmentation.SetNodeReferenceID(segmentation.GetReferenceImageGeometryReferenceRole(), None)
    session.openStudy(tmp_path / "s")
    assert [candidate.segmentId for candidate in session.cases.candidates()] == [None, None]


def test_what_cannot_be_done_yet_says_what_comes_first(session: Session, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No study is open. Choose a folder"):
        session.addFromScene()
    session.openStudy(tmp_path / "s")
    with pytest.raises(InputError, match="There is no model yet. Train one first"):
        session.predict()
    with pytest.raises(InputError, match="No training of this study can be resumed"):
        session.resume()
    with pytest.raises(InputError, match="filters: Wanted"):
        session.train(TrainingOptions(settings={"filters": "many"}))
    with pytest.raises(InputError, match="minutes: Wanted a length of the training, found none"):
        session.train(TrainingOptions(minutes=None))
    assert session.study.runs == []


def test_figures_are_those_of_the_label_that_the_case_has(
    session: Session, core: SlicerCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _volume("A", labeled=True)
    study = session.setupCohort(tmp_path / "s", labeled=[source])
    (study.predictions / "case_001").mkdir(parents=True)
    (study.predictions / "case_001" / "segmentation.seg.nrrd").touch()
    against = {"dice": 0.61, "hd95_mm": 9.0, "asd_mm": 2.0}
    study.setFigures("case_001", {"volume_ml": 50.0, **against})
    compared: list[int] = []

    def start(arguments: list[str], onEvent: Any, onDone: Any, stopFile: Path | None) -> None:
        if arguments[0] == "evaluate":
            (case,) = load_cohort(Path(arguments[arguments.index("--cohort") + 1])).validation
            compared.append(int((sitk.GetArrayFromImage(sitk.ReadImage(case.label)) > 0).sum()))
            if len(compared) == 2:
                study.setLabel("case_001", LabelSource(tmp_path / "another.seg.nrrd"))
            onEvent({"event": "evaluated", "case": "case_001", "dice": 0.9, "hd95": 3.0, "asd": 1.0})
        onDone(EngineOutcome(EngineState.FINISHED, "", ""))

    monkeypatch.setattr(session._runner, "start", start)
    monkeypatch.setattr(session._model, "_runFor", lambda verb: study.newRun())
    session.useAsLabel("case_001", *source[1:])
    assert study.case("case_001").figures == {"volume_ml": 50.0}
    _layer(source, 1)
    edited = int((sitk.GetArrayFromImage(labelImage(source[1], source[2], source[0])) > 0).sum())
    session.predict()
    assert compared == [edited] and study.case("case_001").figures["dice"] == 0.9
    # The label is changed while it is compared with.
    session.predict()
    assert study.case("case_001").figures == {"volume_ml": 50.0}


def test_nothing_is_done_where_the_studys_folder_was(session: Session, core: SlicerCore, tmp_path: Path) -> None:
    source = _volume("A", labeled=True)
    study = session.setupCohort(tmp_path / "s", labeled=[source], unlabeled=[_volume("B", seed=1)])
    _layer(source, 1)
    study.folder.rename(tmp_path / "moved")
    for act in (
        session.train,
        session.retrain,
        session.resume,
        session.predict,
        session.suggest,
        session.cases.refreshLabels,
        study.writeCohort,
        lambda: session.useAsLabel("case_001", *source[1:]),
        lambda: session.cases.add(_volume("C", seed=2)),
    ):
        with pytest.raises(InputError, match="s: The study's folder was not found. Move it back, or ch"):
            act()
    assert not study.folder.exists()
    session.openStudy(tmp_path / "moved")
    assert session.cases.refreshLabels() == ["case_001"]


def test_an_edit_goes_into_the_study_that_it_was_made_in_and_not_into_its_copy(
    session: Session, tmp_path: Path
) -> None:
    source = _volume("A", labeled=True)
    study = session.setupCohort(tmp_path / "s", labeled=[source], unlabeled=[_volume("B", seed=1)])
    shutil.copytree(study.folder, tmp_path / "copy")
    before = study.case("case_001").label.file.read_bytes()
    _layer(source, 1)
    told: list[str] = []
    session.onStudyChanged(lambda: told.append(str(session.study.folder)))
    copy = session.openStudy(tmp_path / "copy")
    assert told == [str(tmp_path / "copy")]
    assert study.case("case_001").label.file.read_bytes() != before
    # The scene's is not the copy's: the person decides.
    with pytest.raises(InputError, match="To keep the label in the scene, choose it under Label"):
        session.cases.refreshLabels()
    assert copy.case("case_001").label.file.read_bytes() == before


def test_a_folder_that_goes_while_the_model_looks_at_the_scans_is_said(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = session.setupCohort(tmp_path / "s", labeled=[], unlabeled=[_volume("A"), _volume("B", seed=1)])
    outcomes: list[EngineOutcome] = []

    def start(arguments: list[str], onEvent: Any, onDone: Any, stopFile: Path | None) -> None:
        onEvent({"event": "suggested", "case": "case_001", "reason": "It stands for many."})
        study.folder.rename(tmp_path / "moved")
        onDone(EngineOutcome(EngineState.FINISHED, "", ""))

    monkeypatch.setattr(session._runner, "start", start)
    monkeypatch.setattr(session._model, "_runFor", lambda verb: study.newRun())
    session.suggest(onDone=outcomes.append)
    (outcome,) = outcomes
    assert outcome.state is EngineState.FAILED
    assert outcome.message.startswith("s: The study's folder was not found. Move it back")
    assert not study.folder.exists()


def test_a_scan_that_is_gone_is_said_by_its_case(session: Session, tmp_path: Path) -> None:
    session.openStudy(tmp_path / "s")
    session.study.addScan(tmp_path / "gone.nrrd")
    with pytest.raises(InputError, match="case_001: The scan's file gone.nrrd was not found. Put it back"):
        session.cases.load("case_001")


def test_curves_of_an_interrupted_run_come_back_whatever_its_last_line_is(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    event = {"event": "progress", "iteration": 4, "of": 8, "losses": {"total": 0.5}, "phase": "co-learning"}
    run.events.write_text(json.dumps(event) + "\nnot json\n" + '{"event": "prog', encoding="utf-8")
    progress = progressOf(run)
    assert progress.share == 0.5
    assert progress.losses["total"].values == [0.5]


def test_plots_are_updated_and_not_made_again(core: SlicerCore) -> None:
    import slicer

    plots, progress = TrainingPlots(core.scene), TrainingProgress()
    for iteration in (1, 2, 3):
        losses = {"total": 1 / iteration, "labeled_1": 0.5}
        progress.follow(
            {"event": "progress", "iteration": iteration, "of": 10, "losses": losses, "phase": "co-learning"}
        )
        plots.update(progress)
    chart = plots.chart("Losses")
    assert chart is not None
    assert plots.chart("Dice") is None
    assert chart.GetNumberOfPlotSeriesNodes() == 2
    table = chart.GetNthPlotSeriesNode(0).GetTableNode()
    assert slicer.util.arrayFromTableColumn(table, "Iteration").tolist() == [1, 2, 3]
    assert np.allclose(slicer.util.arrayFromTableColumn(table, "total"), [1, 1 / 2, 1 / 3])
    assert core.scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 2
    progress.follow({"event": "validated", "iteration": 3, "cases": 3, "dice": {"teacher": 0.9}})
    plots.update(progress)
    assert plots.chart("Dice") is not None
    # Another training, by a method with other losses.
    progress = TrainingProgress()
    losses = {"total": 1.5, "consistency": 0.1}
    progress.follow({"event": "progress", "iteration": 1, "of": 9, "losses": losses, "phase": "training"})
    plots.update(progress)
    assert plots.chart("Losses") is chart and plots.chart("Dice") is None
    assert [chart.GetNthPlotSeriesNode(n).GetName() for n in range(2)] == ["total", "consistency"]
    assert chart.GetNumberOfPlotSeriesNodes() == 2
    assert core.scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 2
    means = {"dice": 0.9, "jaccard": 0.8, "hd95": 3.0, "asd": 1.0}
    plots.updateRounds([Round("001", "", None, 2, 2, cases=3, means=means)])
    assert plots.chart("Overlap by round") is not None
    # A study without rounds.
    plots.updateRounds([])
    assert plots.chart("Overlap by round") is None and plots.chart("Distances by round") is None


def test_what_is_told_of_a_training_is_not_told_of_another_study(session: Session, tmp_path: Path) -> None:
    session.openStudy(tmp_path / "one")
    session.progress.share = 0.5
    session.openStudy(tmp_path / "one")
    assert session.progress.share == 0.5
    session.openStudy(tmp_path / "two")
    assert session.progress.share == 0.0


def test_doubtful_places_are_in_ras(session: Session, tmp_path: Path) -> None:
    import slicer
    import vtk

    from LASegColearnSlicer.results import markNode

    volume = _volume("A")
    session.setupCohort(tmp_path / "s", labeled=[], unlabeled=[volume])
    doubt = np.zeros((20, 20, 20), np.float32)
    doubt[3:8, 9:14, 11:16] = 1
    node = slicer.util.addVolumeFromArray(doubt)
    matrix = vtk.vtkMatrix4x4()
    for row, values in enumerate(((-2, 0, 0, 30), (0, -2, 0, 40), (0, 0, 3, -50))):
        for column, value in enumerate(values):
            matrix.SetElement(row, column, value)
    node.SetIJKToRASMatrix(matrix)
    markNode(node, session.study.identity, "case_001", "uncertainty")
    teacher = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    markNode(teacher, session.study.identity, "case_001", "teacher")
    teacher.SetAttribute("LASegColearn.model", "")
    # Voxel k 5, j 11, i 13.
    assert session.doubtfulPlaces("case_001") == [(30 - 2 * 13, 40 - 2 * 11, -50 + 3 * 5)]


def test_a_case_that_was_not_predicted_has_no_doubt_and_no_copy(session: Session, tmp_path: Path) -> None:
    session.setupCohort(tmp_path / "s", labeled=[], unlabeled=[_volume("A")])
    for ask in (session.doubtfulPlaces, session.copyPrediction):
        with pytest.raises(InputError, match="case_001: Its prediction cannot be shown. Predict the case again"):
            ask("case_001")


@pytest.mark.parametrize("option", ["", "CenterImage", "DiscardOrientation"])
def test_a_scan_that_was_loaded_away_from_its_place_is_written_as_it_lies(
    session: Session, core: SlicerCore, tmp_path: Path, option: str
) -> None:
    voxels = np.random.default_rng(0).integers(0, 900, (6, 7, 8), dtype=np.int16)
    image = sitk.GetImageFromArray(voxels)
    image.SetOrigin((10.25, -20.5, 33.0))
    image.SetSpacing((0.7, 1.1, 2.3))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    file = tmp_path / "scan.nrrd"
    sitk.WriteImage(image, file)
    volumes = core.logics["Volumes"]
    # The numbers of the check boxes in Slicer's window for adding data.
    volume = volumes.AddArchetypeVolume(str(file), "Scan", {"": 0, "CenterImage": 2, "DiscardOrientation": 16}[option])
    session.openStudy(tmp_path / "s")
    scan = session.cases.add(volume).scan
    assert (scan == file) == (option == "")
    written = sitk.ReadImage(scan)
    assert np.array_equal(sitk.GetArrayFromImage(written), voxels)
    assert np.allclose(np.array(written.GetOrigin()) * (-1, -1, 1), volume.GetOrigin())


def _layer(source: tuple[Any, Any, str], layer: int) -> None:
    """Draw a whole layer in a segment."""
    import slicer

    volume, segmentation, segmentId = source
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentId, volume)
    array[layer] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, segmentId, volume)


def _structures(shape: tuple[int, ...]) -> np.ndarray:
    """Two structures, 1 and 420, of which the second is the left atrium."""
    values = np.zeros(shape, np.int16)
    values[1:3, 2:4, 2:6], values[5:8, 6:10, 3:9] = 1, 420
    return values


def _labelFile(folder: Path, kind: str, volume: Any) -> tuple[Path, str | None]:
    """A label as people have it, and what its case says of the segment."""
    import slicer

    scan = scanImage(volume)
    values = _structures(slicer.util.arrayFromVolume(volume).shape)
    atrium, both = (sitk.GetImageFromArray(one) for one in ((values == 420).astype(np.uint8), values))
    for image in (atrium, both):
        image.CopyInformation(scan)
    if kind.startswith("segments"):
        file = folder / "label.seg.nrrd"
        write_segmentation(file, atrium)
        image = sitk.ReadImage(file)
        fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
        # As two observers' in one file: both in one layer, one of them by the usual name.
        image = sitk.Cast(both, sitk.sitkInt16)
        for key, value in fields.items():
            image.SetMetaData(key, value)
            if key.startswith("Segment0_"):
                image.SetMetaData(key.replace("Segment0_", "Segment1_"), value)
        for key, value in {"Segment0_LabelValue": "1", "Segment1_LabelValue": "420"}.items():
            image.SetMetaData(key, value)
        image.SetMetaData("Segment1_ID", "Second")
        image.SetMetaData("Segment1_Name", "Observer 2")
        sitk.WriteImage(image, file)
        return file, {"segments, id": "Second", "segments, name": "Observer 2"}[kind]
    if kind == "value":
        sitk.WriteImage(both, folder / "label.nii.gz")
        return folder / "label.nii.gz", "420"
    if kind == "part":
        sitk.WriteImage(sitk.RegionOfInterest(atrium, (9, 7, 5), (1, 4, 4)), folder / "label.nrrd")
        return folder / "label.nrrd", None
    sitk.WriteImage(atrium, folder / f"label.{kind}")
    return folder / f"label.{kind}", None


@pytest.mark.parametrize("kind", ["segments, id", "segments, name", "value", "part", "mha", "mhd", "nhdr", "nii"])
def test_a_label_is_shown_as_the_engine_reads_it_and_stays_as_it_is_unless_it_is_edited(
    kind: str, session: Session, core: SlicerCore, tmp_path: Path
) -> None:
    import slicer

    volume = _volume("A")
    session.setupCohort(tmp_path / "s", labeled=[], unlabeled=[volume])
    file, segment = _labelFile(tmp_path, kind, volume)
    session.study.setLabel("case_001", LabelSource(file, segment))
    session.study.setRole("case_001", "labeled")
    node = session.cases.loadLabel("case_001")
    source = session.cases.labelSource("case_001")
    assert source is not None and source[0] is node
    shown = slicer.util.arrayFromSegmentBinaryLabelmap(*source, volume)
    assert np.array_equal(shown > 0, _structures(shown.shape) == 420)
    assert session.cases.refreshLabels() == []
    assert session.study.case("case_001").label == LabelSource(file, segment)
    assert node.GetStorageNode() is None, "A saved scene writes over the label, or where nothing is."
    _layer((volume, *source), 9)
    assert session.cases.refreshLabels() == ["case_001"]
    assert session.study.case("case_001").label.file != file


def test_a_label_that_was_moved_in_the_scene_is_written(session: Session, tmp_path: Path) -> None:
    import slicer
    import vtk

    volume, segmentation, segmentId = _volume("A", labeled=True)
    session.setupCohort(tmp_path / "s", labeled=[(volume, segmentation, segmentId)])
    assert session.cases.refreshLabels() == []
    move = vtk.vtkTransform()
    move.Translate(0, 0, 2)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(move.GetMatrix())
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    assert segmentation.HardenTransform()
    assert session.cases.refreshLabels() == ["case_001"]
    assert session.cases.refreshLabels() == []


def test_a_label_that_says_not_which_segment_is_refused_and_leaves_nothing_in_the_scene(
    session: Session, core: SlicerCore, tmp_path: Path
) -> None:
    volume = _volume("A")
    session.setupCohort(tmp_path / "s", labeled=[], unlabeled=[volume])
    file, _ = _labelFile(tmp_path, "value", volume)
    session.study.setLabel("case_001", LabelSource(file, None))
    with pytest.raises(InputError, match="case_001: Wanted a label of 0 and one other value, found 2 others"):
        session.cases.loadLabel("case_001")
    assert core.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    file.unlink()
    with pytest.raises(InputError, match="case_001: The label's file label.nii.gz was not found"):
        session.cases.loadLabel("case_001")


def test_an_old_scene_does_not_take_a_newer_label_away(session: Session, core: SlicerCore, tmp_path: Path) -> None:
    source = _volume("A", labeled=True)
    session.setupCohort(tmp_path / "s", labeled=[source])
    assert core.scene.WriteToMRB(str(tmp_path / "old.mrb"))
    _layer(source, 1)
    assert session.cases.refreshLabels() == ["case_001"]
    file = session.study.case("case_001").label.file
    newer = file.read_bytes()
    core.scene.Clear(0)
    assert core.scene.ReadFromMRB(str(tmp_path / "old.mrb"), True)
    with pytest.raises(InputError, match="case_001: The label of A .* is newer than the one in the scene. .*Use as la"):
        session.train()
    assert file.read_bytes() == newer
    assert session.study.runs == []
    kept = session.cases.labelSource("case_001")
    session.useAsLabel("case_001", *kept)
    assert file.read_bytes() != newer
    assert session.cases.refreshLabels() == []
    _layer((session.cases.volumeNode("case_001"), *kept), 2)
    assert session.cases.refreshLabels() == ["case_001"], "What is edited afterwards is written as ever."


def test_a_newer_label_is_kept_when_the_older_one_leaves_the_scene(
    session: Session, core: SlicerCore, tmp_path: Path
) -> None:
    source = _volume("A", labeled=True)
    session.setupCohort(tmp_path / "s", labeled=[source])
    file = session.study.case("case_001").label.file
    core.scene.RemoveNode(source[1])
    loaded = session.cases.loadLabel("case_001")
    _layer((source[0], *session.cases.labelSource("case_001")), 1)
    assert session.cases.refreshLabels() == ["case_001"], "A label that was loaded from its file is edited as well."
    newer = file.read_bytes()
    loaded.SetAttribute("LASegColearn.labelFile", "of another day")
    _layer((source[0], *session.cases.labelSource("case_001")), 2)
    with pytest.raises(InputError, match="remove the segmentation A label from the scene"):
        session.cases.refreshLabels()
    core.scene.RemoveNode(loaded)
    assert session.cases.refreshLabels() == []
    assert file.read_bytes() == newer


def test_a_segmentation_that_is_the_label_no_more_is_not_saved_over_the_one_that_is(
    session: Session, core: SlicerCore, tmp_path: Path
) -> None:
    source = _volume("A", labeled=True)
    session.setupCohort(tmp_path / "s", labeled=[source])
    file = session.study.case("case_001").label.file
    core.scene.RemoveNode(source[1])
    # As somebody loads it in Add Data.
    earlier, own = core.loadSegmentation(file), core.loadSegmentation(file)
    assert earlier.GetStorageNode().GetFileName() == own.GetStorageNode().GetFileName() == str(file)
    session.useAsLabel("case_001", own, str(own.GetSegmentation().GetNthSegmentID(0)))
    # The scene's Save gives each a file of its own: the study would not know what was written over its label.
    assert earlier.GetStorageNode() is None and own.GetStorageNode() is None
    assert earlier.GetSegmentation().GetNumberOfSegments() == 1


def test_what_is_shown_of_a_case_is_not_saved_beside_its_files_under_its_name_in_the_scene(
    session: Session, core: SlicerCore, tmp_path: Path
) -> None:
    """Slicer's Save writes each node whose name is not its file's anew, in the folder that it was loaded from."""
    session.setupCohort(tmp_path / "s", labeled=[_volume("DOE JANE", labeled=True)])
    shutil.copy(session.study.case("case_001").scan, tmp_path / "la_007.nrrd")
    session.study.addScan(tmp_path / "la_007.nrrd")
    core.scene.Clear(0)
    assert session.cases.load("case_001").GetName() == "DOE JANE"
    label = session.cases.loadLabel("case_001")
    where = session.cases.load("case_002")
    assert where.GetName() == session.study.case("case_002").name == "la_007"
    assert where.GetStorageNode().GetFileName() == str(tmp_path / "la_007.nrrd")
    assert session.cases.load("case_001").GetStorageNode() is None and label.GetStorageNode() is None
    assert session.cases.refreshLabels() == []


def test_a_label_that_the_study_refuses_replaces_no_file_and_is_none_in_the_scene(
    session: Session, core: SlicerCore, tmp_path: Path
) -> None:
    study = session.setupCohort(tmp_path / "s", labeled=[_volume("A", labeled=True)], unlabeled=[_volume("B", seed=1)])
    first, second = study.cases
    teachers = _volume("C", labeled=True, seed=2)
    others = Study.at(study.folder)
    others.setState(first.id, "flagged")
    before = first.label.file.read_bytes()
    for case in (first, second):
        with pytest.raises(InputError, match="The study was changed by another Slicer"):
            session.useAsLabel(case.id, *teachers[1:])
    assert first.label.file.read_bytes() == before and not (study.folder / "labels" / "earlier").exists()
    assert not (study.folder / "labels" / f"{second.id}.seg.nrrd").exists()
    with pytest.raises(InputError, match="changed by another Slicer"):
        session.cases.add(teachers[0])
    assert not (study.folder / "scans" / "case_003.nrrd").exists()
    session.openStudy(study.folder)
    assert session.cases.labelSource(second.id) is None and session.cases.labelSource(first.id)[0] is not teachers[1]


def test_work_that_is_done_is_over_even_if_the_study_cannot_keep_it() -> None:
    from LASegColearnSlicer.engine_runner import FirstError

    kept, done = FirstError(), EngineOutcome(EngineState.FINISHED, "", "details")
    with kept:
        pass
    assert kept.changed(done) is done
    with kept:
        raise OSError(28, "No space left on device")
    with kept:
        raise OSError(13, "Permission denied")
    outcome = kept.changed(done)
    assert (outcome.state, outcome.details) == (EngineState.FAILED, "details")
    assert outcome.message.startswith("There is no space left on the disk.")
    with pytest.raises(ZeroDivisionError), kept:
        raise ZeroDivisionError
