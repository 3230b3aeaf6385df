"""The annotate-retrain loop without a widget, on phantoms: asked for, corrected, retrained, better on unseen ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from LASegColearnLib.cohort import Case, Cohort, save_cohort
from LASegColearnLib.errors import InputError
from LASegColearnLib.phantom import make_phantom
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import preset
from LASegColearnSlicer.engine_process import EngineOutcome, EngineState
from LASegColearnSlicer.rounds import judgeEarlier, judgeRound, learnedFrom, readRound, startRound, trainedOn
from LASegColearnSlicer.session import Session
from LASegColearnSlicer.study import LabelOrigin, LabelSource, Study, StudyCase
from LASegColearnSlicer.training_options import TrainingOptions
from LASegColearnSlicer.training_plots import TrainingPlots
from mrml_scene import startSlicerCore
from predicted_case import makePredictedCase, writePrediction

SMALL = {
    "spacing_mm": "5,5,5",
    "patch_size": "16,16,16",
    "filters": "4",
    "precision": "float32",
    "learning_rate": "0.1",
}
LABELED, UNLABELED, VALIDATION = range(2), range(2, 6), range(6, 10)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten phantoms, and a cohort of them that names no label of an unlabeled one."""
    folder = tmp_path_factory.mktemp("phantoms")

    def case(number: int, labeled: bool) -> Case:
        scan, label = make_phantom(100 + number)
        sitk.WriteImage(scan, folder / f"p{number}.nrrd")
        sitk.WriteImage(label, folder / f"p{number}-label.nrrd")
        return Case(f"p{number}", folder / f"p{number}.nrrd", folder / f"p{number}-label.nrrd" if labeled else None)

    cohort = Cohort(
        tuple(case(n, True) for n in LABELED),
        tuple(case(n, False) for n in UNLABELED),
        tuple(case(n, True) for n in VALIDATION),
    )
    save_cohort(cohort, folder / "cohort.json")
    return folder


def _trueLabel(phantoms: Path, case: StudyCase) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(phantoms / f"{case.name}-label.nrrd"))


def test_two_rounds_and_the_second_is_better_on_unseen_phantoms(
    session: Session, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study = session.openStudy(tmp_path / "study")
    study.addCohortFile(phantoms / "cohort.json")
    options = TrainingOptions("demo", minutes=None, iterations=60, settings=SMALL, device="cpu")
    outcome = session.train(options, wait=True)
    assert outcome is not None and outcome.state is EngineState.FINISHED, outcome
    (first,) = session.rounds
    assert (first.startedFrom, first.labeled, first.cases, first.verdict) == (None, 2, len(VALIDATION), "")
    assert first.means is not None and first.means["dice"] is not None

    outcome = session.suggest(device="cpu", wait=True)
    assert outcome is not None and outcome.state is EngineState.FINISHED, outcome
    places = {case.id: case.suggested for case in study.cases if case.suggested is not None}
    assert sorted(asked.place for asked in places.values()) == [1, 2, 3, 4]
    assert all(asked.run == "001" and asked.reason for asked in places.values())
    chosen = [caseId for caseId, asked in places.items() if asked.place <= 2]

    outcome = session.predict(chosen, device="cpu", wait=True)
    assert outcome is not None and outcome.state is EngineState.FINISHED, outcome
    for caseId in chosen:
        node, segmentId = session.segmentToCorrect(caseId)
        assert study.case(caseId).state == "in progress"
        volume = session.cases.load(caseId)
        before = session.measure(node, segmentId, volume)
        assert [network.name for network in before.networks] == ["teacher", "student_1", "student_2"]
        assert before.changedShare == 0 and before.networks[0].dice == 1
        label = _trueLabel(phantoms, study.case(caseId))
        slicer.util.updateSegmentBinaryLabelmapFromArray(label, node, segmentId, volume)
        after = session.measure(node, segmentId, volume)
        assert after.changedShare and after.networks[0].dice and after.networks[0].dice < 1
        used = session.useAsLabel(caseId, node, segmentId)
        assert (used.role, used.state) == ("labeled", "completed")
        assert used.origin is not None and used.origin.model == "001"
        assert used.label is not None
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(used.label.file)) > 0, label > 0)

    outcome = session.retrain(iterations=120, device="cpu", wait=True)
    assert outcome is not None and outcome.state is EngineState.FINISHED, outcome
    second = session.rounds[-1]
    assert (second.run, second.startedFrom, second.against, second.labeled) == ("002", "001", "001", 4)
    assert sorted(second.newLabels) == sorted(chosen)
    assert second.means is not None and second.means["dice"] is not None
    assert second.means["dice"] > first.means["dice"] + 0.02
    assert second.comparison is not None and second.comparison.mean > 0.02
    assert "on 4 cases not trained on" in second.verdict
    assert study.currentRun is not None and study.currentRun.path.name == "002"
    # Nobody's name and no path of a scan goes into the notes of the rounds.
    assert str(phantoms) not in (study.folder / "runs" / "002" / "round.json").read_text("utf-8")

    session.makeCurrent("001")
    assert Study.at(study.folder).currentRun.path.name == "001"  # type: ignore[union-attr]
    assert Study.at(study.folder).case(chosen[0]).origin == study.case(chosen[0]).origin
    _refusals(session, study)


def _refusals(session: Session, study: Study) -> None:
    """What can be wrong with the current model is a sentence, and nothing is lost."""
    with pytest.raises(InputError, match="There is no model with this name"):
        session.makeCurrent("../002")
    run = study.folder / "runs" / "001"
    whole = (run / "checkpoints" / "last.pt").read_bytes()
    (run / "checkpoints" / "last.pt").write_bytes(whole[:1000])
    outcome = session.retrain(iterations=1, device="cpu", wait=True)
    assert outcome is not None and outcome.state is EngineState.FAILED
    assert outcome.message == (
        "last.pt: It is not a whole checkpoint: cut short or damaged. Copy it again, or use another one."
    )
    assert [one.run for one in session.rounds] == ["001", "002"]
    (run / "checkpoints" / "last.pt").write_bytes(whole)
    settings = (run / "settings.json").read_text("utf-8")
    (run / "settings.json").write_text(settings.replace('"seed"', '"a_later_setting"'), encoding="utf-8")
    with pytest.raises(InputError, match="a newer version may have made it. Update the extension"):
        session.retrain()
    (run / "settings.json").write_text(settings, encoding="utf-8")
    assert study.currentRun is not None and study.currentRun.path.name == "001"


def test_the_opinion_is_accepted_from_the_console_whole_and_where_sure(session: Session, tmp_path: Path) -> None:
    case = makePredictedCase(session, tmp_path / "study", oblique=False)
    own, sure = case.voxels(), 1 - case.uncertainty >= 0.8 - 1e-6
    session.accept(case.caseId, case.node, case.segmentId, least=0.8)
    assert np.array_equal(case.voxels(), np.where(sure, case.teacher, own))
    assert (case.voxels() != own).any() and (case.voxels() != case.teacher).any()
    session.accept(case.caseId, case.node, case.segmentId, cut=0.8)
    assert np.array_equal(case.voxels(), case.probability > 0.8)
    session.accept(case.caseId, case.node, case.segmentId)
    assert np.array_equal(case.voxels(), case.teacher)
    session.useAsLabel(case.caseId, case.node, case.segmentId)
    origin = session.study.case(case.caseId).origin
    assert origin is not None and origin.model == "001"
    with pytest.raises(InputError, match="The segmentation has no such segment"):
        session.accept(case.caseId, case.node, "another")
    with pytest.raises(InputError, match="a prediction, which cannot be edited"):
        session.accept(case.caseId, session.showPrediction(case.caseId), case.segmentId)


def test_an_empty_segment_takes_the_opinion_on_the_scans_grid(session: Session, tmp_path: Path) -> None:
    import slicer

    case = makePredictedCase(session, tmp_path / "study", oblique=True)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "New")
    segmentId = node.GetSegmentation().AddEmptySegment("la", "LA")
    for cut, expected in ((0.5, case.teacher), (0.8, case.probability > 0.8)):
        session.accept(case.caseId, node, segmentId, cut=cut)
        found = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, case.volume) > 0
        assert np.array_equal(found, expected)


def test_accepting_from_the_console_leaves_a_finer_segment_as_fine_as_it_is(session: Session, tmp_path: Path) -> None:
    import slicer

    case = makePredictedCase(session, tmp_path / "study", oblique=False)
    shape = (60, 60, 70)
    grid = slicer.util.addVolumeFromArray(np.zeros(shape, np.uint8), name="Fine, and larger than the scan in one axis")
    grid.SetSpacing(0.5, 0.5, 0.5)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Fine")
    node.SetReferenceImageGeometryParameterFromVolumeNode(grid)
    drawn = np.zeros(shape, np.uint8)
    drawn[3:55, 10:55, 10:66] = np.random.default_rng(1).random((52, 45, 56)) > 0.2
    segmentId = node.GetSegmentation().AddEmptySegment("la", "LA")
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, node, segmentId, grid)

    def voxels() -> np.ndarray:
        return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, grid) > 0

    session.accept(case.caseId, node, segmentId, least=1.0)
    assert np.array_equal(voxels(), drawn > 0)
    session.accept(case.caseId, node, segmentId)
    assert node.GetBinaryLabelmapInternalRepresentation(segmentId).GetSpacing() == (0.5, 0.5, 0.5)
    # By the voxels that surely lie inside, or outside but in the scan, whose voxels are twice as large.
    teacher = case.teacher.repeat(2, 0).repeat(2, 1).repeat(2, 2)[:40, :52, :60]
    inside = ndimage.binary_erosion(teacher, iterations=2)
    outside = ~ndimage.binary_dilation(teacher, np.ones((3, 3, 3)), iterations=2)
    assert voxels()[:40, :52, :60][inside].all()
    assert not voxels()[:36, :48, :56][outside[:36, :48, :56]].any()
    # Where there is no scan the teacher says that there is nothing, as in the Segment Editor.
    assert not voxels()[42:].any()


def test_a_prediction_that_is_right_becomes_a_label_as_it_is_and_the_next_one_leaves_it_alone(
    session: Session, tmp_path: Path
) -> None:
    import slicer

    case = makePredictedCase(session, tmp_path / "study")
    teacher = session.showPrediction(case.caseId)
    used = session.useAsLabel(case.caseId, teacher, teacher.GetSegmentation().GetNthSegmentID(0))
    assert used.role == "labeled"
    source = session.cases.labelSource(case.caseId)
    assert source is not None and source[0] is not teacher
    # Correcting it afterwards goes on in the label itself.
    assert session.segmentToCorrect(case.caseId) == source
    session.display.remove(case.caseId)
    assert slicer.util.arrayFromSegmentBinaryLabelmap(*source, case.volume).any()


def test_a_prediction_of_the_same_run_that_is_newer_or_whole_again_is_shown(session: Session, tmp_path: Path) -> None:
    import slicer

    case = makePredictedCase(session, tmp_path / "study")
    earlier = session.showPrediction(case.caseId)
    assert session.showPrediction(case.caseId) is earlier
    slicer.mrmlScene.RemoveNode(session.display.uncertaintyNode(case.caseId))
    session.showPrediction(case.caseId)
    assert session.display.uncertaintyNode(case.caseId) is not None
    # A run that went on keeps its name.
    newer = np.roll(case.teacher, 2, axis=0)
    writePrediction(session, case.caseId, session.study.case(case.caseId).scan, newer, case.uncertainty)
    shown = session.showPrediction(case.caseId)
    segmentId = shown.GetSegmentation().GetNthSegmentID(0)
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(shown, segmentId, case.volume) > 0
    assert np.array_equal(voxels, newer) and np.array_equal(session.networkMasks(case.caseId)["teacher"], newer)


def test_a_prediction_that_was_painted_into_becomes_a_label_with_the_strokes(session: Session, tmp_path: Path) -> None:
    import slicer

    case = makePredictedCase(session, tmp_path / "study")
    teacher = session.showPrediction(case.caseId)
    segmentId = teacher.GetSegmentation().GetNthSegmentID(0)
    painted = case.teacher.copy()
    painted[:, :3] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(painted.astype(np.uint8), teacher, segmentId, case.volume)
    # The prediction in the scene is not whole any more.
    slicer.mrmlScene.RemoveNode(session.display.uncertaintyNode(case.caseId))
    session.useAsLabel(case.caseId, teacher, segmentId)
    label = session.study.case(case.caseId).label
    assert label is not None
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(label.file)) > 0, painted)


def test_another_cases_prediction_does_not_become_a_label(session: Session, tmp_path: Path) -> None:
    import slicer

    case = makePredictedCase(session, tmp_path / "study")
    teacher = session.showPrediction(case.caseId)
    other = session.cases.add(slicer.util.addVolumeFromArray(np.arange(1000, dtype=np.int16).reshape(10, 10, 10)))
    with pytest.raises(InputError, match="The prediction Scan teacher belongs to another case"):
        session.useAsLabel(other.id, teacher, teacher.GetSegmentation().GetNthSegmentID(0))


def test_a_case_without_prediction_and_label_is_outlined_in_an_empty_segment(
    session: Session, phantoms: Path, tmp_path: Path
) -> None:
    import slicer

    session.openStudy(tmp_path / "study").addScan(phantoms / "p2.nrrd", "p2")
    node, segmentId = session.segmentToCorrect("case_001")
    segment = node.GetSegmentation().GetSegment(segmentId)
    assert segment.GetName() == "Left atrium" and "Left atrium" in segment.GetTerminology()
    assert session.study.case("case_001").state == "in progress"
    # What was begun is gone on with.
    assert session.segmentToCorrect("case_001") == (node, segmentId)
    volume = session.cases.load("case_001")
    with pytest.raises(InputError, match="The segment Left atrium is empty"):
        session.useAsLabel("case_001", node, segmentId)
    label = _trueLabel(phantoms, session.study.case("case_001"))
    slicer.util.updateSegmentBinaryLabelmapFromArray(label, node, segmentId, volume)
    used = session.useAsLabel("case_001", node, segmentId)
    assert (used.role, used.origin.model) == ("labeled", None)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="There is no model to retrain. Train one first"):
        session.retrain()
    with pytest.raises(InputError, match="There is no model yet"):
        session.suggest()


def test_what_was_to_be_outlined_before_there_was_a_prediction_is_corrected_from_it(
    session: Session, tmp_path: Path
) -> None:
    case = makePredictedCase(session, tmp_path / "study", oblique=False)
    predictions = session.study.predictions
    predictions.rename(predictions.with_name("later"))
    empty, _segmentId = session.segmentToCorrect(case.caseId)
    assert session.segmentToCorrect(case.caseId)[0] is empty
    predictions.with_name("later").rename(predictions)
    node, segmentId = session.segmentToCorrect(case.caseId)
    assert node is not empty
    session.useAsLabel(case.caseId, node, segmentId)
    assert np.array_equal(_voxels(node, segmentId, case.volume), case.teacher)
    # Who has emptied a label, to begin anew, goes on with it.
    node.GetSegmentation().GetSegment(segmentId).RemoveAllRepresentations()
    assert session.segmentToCorrect(case.caseId)[0] is node


def _voxels(node: object, segmentId: str, volume: object) -> np.ndarray:
    import slicer

    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume) > 0  # type: ignore[no-any-return]


def test_a_case_that_the_training_held_out_is_not_told_as_one_that_it_was_trained_on(tmp_path: Path) -> None:
    from LASegColearnLib.run_folder import write_json_atomically

    runs = [RunFolder(tmp_path / name) for name in ("001", "002")]
    for run, labels in zip(runs, (["a", "b"], ["a", "b", "d"]), strict=True):
        startRound(run, None if run is runs[0] else runs[0], None, ["a", "b", "c", *labels[2:]], 3)
        cases = [{"id": case, "image": f"{case}.nrrd", "label": f"{case}-la.nrrd"} for case in labels]
        write_json_atomically(run.cohort, {"labeled": cases, "unlabeled": [], "validation": []})
    first, second = map(readRound, runs)
    assert first is not None and second is not None
    assert (first.labeled, second.labeled, second.newLabels) == (2, 3, ("d",))


def test_a_retraining_takes_the_models_own_settings_and_a_third_of_its_time(session: Session, tmp_path: Path) -> None:
    from dataclasses import replace

    from LASegColearnLib.run_folder import write_json_atomically
    from LASegColearnLib.settings import preset

    study = session.openStudy(tmp_path / "study")
    for number, started in ((1, None), (2, study.folder / "runs" / "001")):
        run = study.newRun()
        startRound(run, None if started is None else RunFolder(started), None, ["a", "b"], 3)
        settings = replace(preset("cpu"), minutes=30.0 if number == 1 else 7.0, filters=4, mirror=False, ramp_up=0.5)
        write_json_atomically(run.settings, settings.to_dict())
        run.checkpoints.mkdir()
        run.last_checkpoint.touch()
        options = session.retrainingOptions()
        assert options.minutes == (10.0 if number == 1 else 7.0)
        assert options.settings == {"filters": "4", "ramp_up": "0.5"}
        assert options.warmStart and options.preset == "cpu"
    assert session.retrainingOptions(iterations=5).arguments()[6:8] == ["--iterations", "5"]


def test_the_worse_of_two_models_does_not_stay_the_current_one(session: Session, tmp_path: Path) -> None:
    study = session.openStudy(tmp_path / "study")
    runs = []
    for _ in range(2):
        run = study.newRun()
        startRound(run, None, runs[-1] if runs else None, [], 0)
        run.checkpoints.mkdir()
        run.last_checkpoint.touch()
        runs.append(run)
    event = {
        "event": "judged",
        "cases": 5,
        "means": {"dice": 0.8, "jaccard": 0.7, "hd95": 9.0, "asd": None},
        "comparison": {"cases": 5, "mean": -0.02, "low": -0.03, "high": -0.01, "verdict": "worse"},
        "left_out": ["case_009"],
        "undefined": 1,
        "earlier_means": {"dice": 0.82, "jaccard": 0.72, "hd95": 8.0, "asd": None},
        "earlier_undefined": 0,
    }
    judged = judgeRound(runs[1], event)
    assert judged == readRound(runs[1])
    assert judged is not None and (judged.leftOut, judged.undefined) == (("case_009",), 1)
    # Of the same cases and the same labels, or the table would set unlike figures side by side.
    judgeEarlier(runs[0], event)
    earlier = readRound(runs[0])
    assert earlier is not None and earlier.means is not None
    assert (earlier.cases, earlier.means["dice"], earlier.verdict) == (5, 0.82, "")
    assert judged is not None and judged.verdict.startswith("Model 002 is worse than model 001: Dice -2.0 points on 5")
    assert [one.run for one in session.rounds] == ["001", "002"]
    plots = TrainingPlots(startSlicerCore().scene)
    plots.updateRounds(session.rounds)
    chart = plots.chart("Distances by round")
    assert chart is not None and chart.GetNumberOfPlotSeriesNodes() == 1
    assert chart.GetNthPlotSeriesNode(0).GetTableNode().GetTable().GetValue(0, 0).ToInt() == 1


def test_a_model_has_learned_from_its_labels_and_from_those_that_it_went_on_from(
    session: Session, tmp_path: Path
) -> None:
    from LASegColearnLib.run_folder import write_json_atomically

    scans = tmp_path / "scans"
    scans.mkdir()
    study = session.openStudy(tmp_path / "study")
    cases = []
    for number in range(4):
        sitk.WriteImage(make_phantom(number)[0], scans / f"{number}.nrrd")
        cases.append(study.addScan(scans / f"{number}.nrrd"))
    ids = [case.id for case in cases]
    first, second = study.newRun(), RunFolder(study.folder / "runs" / "002")
    for run, started, labeled in ((first, None, ids[:2]), (second, first, ids[1:3])):
        startRound(run, started, None, labeled, 1)
        entries = [{"id": caseId} for caseId in labeled]
        others = [{"id": ids[3]}] if run == second else []
        write_json_atomically(run.cohort, {"labeled": entries, "unlabeled": others, "validation": []})
    assert learnedFrom(first) == set(ids[:2]) and learnedFrom(second) == set(ids[:3])
    assert trainedOn(first) == set(ids[:2]) and trainedOn(second) == set(ids)
    write_json_atomically(second.settings, {**preset("cpu").to_dict(), "method": "supervised"})
    assert trainedOn(second) == set(ids[:3]), "Which sees no case without a label."
    write_json_atomically(first.predecessors, {"labeled": ["gone"], "unlabeled": ["gone too"]})
    assert learnedFrom(second) == {*ids[:3], "gone"} and trainedOn(second) == {*ids[:3], "gone", "gone too"}
    # By the model that a case's figures are of, whatever its role is today.
    for caseId, run in ((ids[0], "002"), (ids[2], "001"), (ids[3], "002")):
        study.addFigures(caseId, {"run": run, "dice": 0.9})
    assert session.learnedFrom == {ids[0]}


def test_a_number_of_a_run_is_given_once_even_when_its_folder_is_deleted(session: Session, tmp_path: Path) -> None:
    study = session.openStudy(tmp_path / "study")
    run = study.newRun()
    study.noteRun(run)
    startRound(run, None, None, [], 0)
    shutil.rmtree(run.path)
    assert [study.newRun().path.name, Study.at(study.folder).newRun().path.name] == ["002", "002"]


class _Engine:
    """In the engine's place: writes what a training leaves, and ends as it is told."""

    def __init__(self) -> None:
        self.verbs: list[str] = []
        self.verdict = "better"
        self.ends: dict[str, EngineState] = {}

    def start(self, arguments: list[str], onEvent: Any, onDone: Any, stopFile: Path | None) -> None:
        verb, run = arguments[0], RunFolder(Path(arguments[arguments.index("--run") + 1]))
        self.verbs.append(verb)
        end = self.ends.pop(verb, EngineState.FINISHED)
        if verb == "train":
            run.checkpoints.mkdir(parents=True)
            run.last_checkpoint.touch()
            files = {"image": run.path / "scan.nrrd", "label": run.path / "label.nrrd"}
            for file in files.values():
                file.touch()
            save_cohort(Cohort((), (), (Case("case_009", **files),)), run.cohort)
            ended = {"event": "finished", "iteration": 4, "complete": True, "elapsed_seconds": 9.5}
            run.events.write_text(json.dumps(ended) + "\n", encoding="utf-8")
        elif end is EngineState.FINISHED:
            comparison = {"cases": 5, "mean": 0.0, "low": -0.1, "high": 0.1, "verdict": self.verdict}
            means = {"dice": 0.8, "jaccard": 0.7, "hd95": 9.0, "asd": 2.0}
            against = comparison if "--against" in arguments else None
            judged = {"cases": 5, "means": means, "comparison": against, "left_out": [], "undefined": 0}
            onEvent({"event": "judged", **judged, "earlier_means": None, "earlier_undefined": 0})
        onDone(EngineOutcome(end, "It was broken." if end is EngineState.FAILED else "", ""))


def test_a_model_whose_judging_was_broken_off_is_not_current_until_it_is_judged(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, engine = session.openStudy(tmp_path / "study"), _Engine()
    monkeypatch.setattr(session._runner, "start", engine.start)

    def now() -> tuple[str | None, str | None]:
        current, unjudged = study.currentRun, session.unjudgedRun
        return current and current.path.name, unjudged and unjudged.path.name

    session.train(wait=True)
    assert now() == ("001", None)
    # Cancel while it is judged.
    engine.ends = {"judge": EngineState.STOPPED}
    assert session.train(wait=True).state is EngineState.FINISHED  # type: ignore[union-attr]
    assert now() == ("001", "002")
    assert (session.rounds[-1].cases, session.rounds[-1].validation) == (0, 1)
    assert "validation" not in json.loads((study.runs[-1].path / "round.json").read_text("utf-8"))
    engine.verdict = "worse"
    assert session.resume(wait=True).state is EngineState.FINISHED  # type: ignore[union-attr]
    assert engine.verbs == ["train", "judge"] * 2 + ["judge"]
    assert now() == ("001", None) and session.rounds[-1].verdict.startswith("Model 002 is worse")
    # Pause in the last moment: it is done, and nothing is started.
    engine.ends, engine.verdict = {"train": EngineState.STOPPED}, "better"
    assert session.train(wait=True).state is EngineState.FINISHED  # type: ignore[union-attr]
    assert engine.verbs[-1] == "train" and now() == ("001", "003")
    session.resume(wait=True)
    assert now() == ("003", None)
    # What cannot be judged takes the place all the same, with a word on it.
    engine.ends = {"judge": EngineState.FAILED}
    session.train(wait=True)
    assert now() == ("004", "004") and session.progress.warnings == ["It was broken."]
    # Nor can what a copy of the study on another computer has no files of.
    label = study.runs[-1].path / "label.nrrd"
    label.rename(label.with_suffix(".away"))
    assert now() == ("004", None)
    label.with_suffix(".away").rename(label)
    session.resume(wait=True)
    with pytest.raises(InputError, match="No training of this study can be resumed"):
        session.resume()


def test_a_note_of_a_round_that_is_damaged_is_left_out_and_the_model_stays(session: Session, tmp_path: Path) -> None:
    study = session.openStudy(tmp_path / "study")
    run = study.newRun()
    startRound(run, None, None, [], 0)
    run.checkpoints.mkdir()
    run.last_checkpoint.touch()
    (run.path / "round.json").write_text("{", encoding="utf-8")
    assert session.rounds == []
    assert study.currentRun is not None


def test_where_a_label_came_from_and_the_order_are_kept_with_the_study_and_an_older_study_opens(
    tmp_path: Path,
) -> None:
    study = Study.at(tmp_path / "study")
    study.addScan(tmp_path / "a.nrrd")
    study.addScan(tmp_path / "b.nrrd")
    study.setLabel("case_001", LabelSource(tmp_path / "a.seg.nrrd"), "003")
    study.setSuggestions("003", {"case_002": "Unlike the others."})
    again = Study.at(study.folder)
    assert again.case("case_001").origin == LabelOrigin(study.case("case_001").origin.when, "003")  # type: ignore[union-attr]
    assert again.case("case_002").suggested == study.case("case_002").suggested
    study.setLabel("case_001", None)
    assert Study.at(study.folder).case("case_001").origin is None
    file = study.folder / "study.json"
    content = json.loads(file.read_text("utf-8"))
    for case in content["cases"]:
        del case["origin"], case["suggested"]
    file.write_text(json.dumps(content), encoding="utf-8")
    assert Study.at(study.folder).case("case_002").suggested is None
