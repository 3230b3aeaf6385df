"""The report: what it says, what it leaves out, and that it stands alone."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.image import imread

from LASegColearnLib.cohort import Case, Cohort, load_cohort, save_cohort
from LASegColearnLib.curves import _look, _panels, dice_curves, loss_curves
from LASegColearnLib.errors import InputError
from LASegColearnLib.events import read_events
from LASegColearnLib.methods import METHODS
from LASegColearnLib.overlays import LABEL_COLOR, PREDICTION_COLOR, overlay_figure
from LASegColearnLib.phantom import make_phantom, write_phantom_cohort
from LASegColearnLib.report import write_report
from LASegColearnLib.run_folder import RunFolder, write_json_atomically
from LASegColearnLib.segmentation_files import write_segmentation
from LASegColearnLib.settings import preset

METRICS = """\
case,network,unit,dice,jaccard,hd95,asd,volume_ml,reference_volume_ml,volume_difference_ml,note
{a},teacher,mm,0.9,0.81818,3,1,40,42,-2,
{b},teacher,mm,0,0,,,0,41,-41,Nothing was predicted: no distances.
{a},student_1,mm,0.8,0.66667,4,1.5,39,42,-3,
{b},student_1,mm,0.7,0.53846,5,1.7,38,41,-3,
"""


def _events(last: dict | None = None) -> list[dict]:
    device = "CPU: 2 threads"
    return [
        {"event": "started", "device": device, "method": "colearning"},
        {"event": "progress", "iteration": 1, "phase": "pretraining", "losses": {"total": 1.0, "labeled_1": 1.0}},
        {"event": "progress", "iteration": 2, "phase": "co-learning", "losses": {"labeled_1": 0.9, "cps_1": None}},
        {"event": "progress", "iteration": 3, "phase": "co-learning", "losses": {"labeled_1": 0.8, "cps_1": 0.4}},
        {"event": "validated", "iteration": 2, "elapsed_seconds": 30.0, "dice": {"teacher": 0.5}, "cases": 2},
        {"event": "validated", "iteration": 3, "elapsed_seconds": 60.0, "dice": {"teacher": 0.6}, "cases": 2},
        {"event": "warning", "message": "Iteration 2 skipped: cps_1 not finite."},
        last or {"event": "finished", "complete": True, "iteration": 3, "elapsed_seconds": 90.0},
    ]


def _make_run(folder: Path, cohort: Cohort, events: list[dict], metrics: str | None = None) -> Path:
    run = RunFolder(folder)
    write_json_atomically(run.settings, preset("demo").to_dict())
    save_cohort(cohort, run.cohort)
    run.events.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    if metrics is not None:
        run.metrics.write_text(metrics, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("Jane Doe")
    return load_cohort(write_phantom_cohort(folder, labeled=1, unlabeled=1, validation=2, seed=6))


@pytest.fixture
def run(phantoms: Cohort, tmp_path: Path) -> Path:
    a, b = (case.id for case in phantoms.validation)
    folder = _make_run(tmp_path / "run", phantoms, _events(), METRICS.format(a=a, b=b))
    for case in phantoms.validation:
        label = sitk.ReadImage(str(case.label))
        write_segmentation(folder / "predictions" / case.id / "segmentation.seg.nrrd", label)
    return folder


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.add(tag)
        self._in_cell = tag == "td"
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data) -> None:
        if self._in_cell:
            self.cells.append(data)
            self._in_cell = False


def test_the_report_says_how_many_models_were_trained_at_once(phantoms: Cohort, tmp_path: Path) -> None:
    started, *others = _events()
    run = _make_run(tmp_path / "run", phantoms, [{**started, "committee": 2}, *others])
    assert "on CPU: 2 threads, 2 models at once. Its quality is not known" in write_report(run).read_text("utf-8")


def test_the_report_says_what_was_trained_and_how_good_it_is(run: Path, phantoms: Cohort) -> None:
    text = write_report(run).read_text("utf-8")
    assert "Trained on 1 labeled and 1 unlabeled scans for 1.5 minutes (3 iterations) on CPU: 2 threads" in text
    assert "models at once" not in text
    assert "Mean Dice of the teacher on 2 cases not trained on: 45.0 %" in text
    cells = _Page(text).cells
    assert "45.00 ± 63.64" in cells
    assert "3.00 (1 undefined)" in cells
    assert "75.00 ± 7.07" in cells
    assert "Nothing was predicted: no distances." in cells
    assert "Iteration 2 skipped" in text
    assert f"worst case, {phantoms.validation[1].id}: Dice 0.00 %" in text


def test_the_report_stands_alone_and_names_no_path(run: Path, phantoms: Cohort) -> None:
    text = write_report(run).read_text("utf-8")
    page = _Page(text)
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not page.tags & {"script", "link", "iframe"}
    assert "Jane" not in text
    assert str(run) not in text
    assert not re.search(r"https?://", text)


def test_a_comparison_stands_beside_it(run: Path, phantoms: Cohort, tmp_path: Path) -> None:
    other = _make_run(tmp_path / "other", phantoms, _events(), METRICS.format(a="x", b="y").replace("0.9", "0.6"))
    cells = _Page(write_report(run, compare_with=other).read_text("utf-8")).cells
    assert cells.count("teacher") == 2
    assert "30.00 ± 42.43" in cells


def test_two_runs_of_one_method_are_told_apart_with_the_units_of_each(
    run: Path, phantoms: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict] = []
    monkeypatch.setattr("LASegColearnLib.report.dice_curves", lambda runs: drawn.append(runs))
    a, b = (case.id for case in phantoms.validation)
    other = _make_run(tmp_path / "other", phantoms, _events()[:-3], METRICS.format(a=a, b=b).replace(",mm,", ",voxel,"))
    cells = _Page(write_report(run, compare_with=other).read_text("utf-8")).cells
    assert {title: len(events) for title, events in drawn[0].items()} == {
        "colearning, this run": 8,
        "colearning, other run": 5,
    }
    assert cells.count("colearning, this run") == cells.count("colearning, other run") == 2
    assert cells.count("mm") == cells.count("voxels") == 2


def test_unlabeled_scans_judge_a_model_of_labels_alone(phantoms: Cohort, tmp_path: Path) -> None:
    (unlabeled,), (a, _) = phantoms.unlabeled, phantoms.validation
    run = _make_run(tmp_path / "run", phantoms, _events(), METRICS.format(a=a.id, b=unlabeled.id))
    assert f"trained on them: {unlabeled.id}." in write_report(run).read_text("utf-8")
    settings = json.loads((run / "settings.json").read_text("utf-8"))
    write_json_atomically(run / "settings.json", {**settings, "method": "supervised"})
    assert "trained on them" not in write_report(run).read_text("utf-8")


def test_cases_that_were_trained_on_are_left_out_and_named(phantoms: Cohort, tmp_path: Path) -> None:
    (trained,), (a, _) = phantoms.labeled, phantoms.validation
    text = write_report(
        _make_run(tmp_path / "run", phantoms, _events(), METRICS.format(a=a.id, b=trained.id))
    ).read_text("utf-8")
    assert "Mean Dice of the teacher on 1 cases not trained on: 90.0 %" in text
    assert f"Left out of the tables, since it was trained on them: {trained.id}." in text
    assert trained.id not in _Page(text).cells
    both = METRICS.format(a=trained.id, b=trained.id)
    text = write_report(_make_run(tmp_path / "all", phantoms, _events(), both)).read_text("utf-8")
    assert "Its quality is not known" in text


def test_a_predecessors_case_with_the_id_of_a_validation_case_is_another_scan(run: Path, phantoms: Cohort) -> None:
    a, b = (case.id for case in phantoms.validation)
    write_json_atomically(RunFolder(run).predecessors, {"labeled": [a], "unlabeled": [b]})
    text = write_report(run).read_text("utf-8")
    assert "on 2 cases not trained on" in text and "trained on them" not in text
    (run / "metrics.csv").write_text(METRICS.format(a=a, b="elsewhere"), encoding="utf-8")
    write_json_atomically(RunFolder(run).predecessors, {"labeled": [], "unlabeled": ["elsewhere"]})
    text = write_report(run).read_text("utf-8")
    assert "a model that it was started from was trained on them: elsewhere." in text
    RunFolder(run).predecessors.write_text("damaged", encoding="utf-8")
    assert "trained on them" not in write_report(run).read_text("utf-8")


def test_an_earlier_models_figures_are_called_that(run: Path, phantoms: Cohort) -> None:
    a, b = (case.id for case in phantoms.validation)
    for case, iteration in ((a, 3), (b, 2)):
        write_json_atomically(run / "predictions" / case / "figures.json", {"model": {"iteration": iteration}})
    text = write_report(run).read_text("utf-8")
    assert f"{b}: predicted by the model of iteration 2, but the run has reached iteration 3;" in text
    assert f"{a}: predicted" not in text and f"{a}, {b}" not in text


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ({"event": "failed", "message": "No room on disk.", "cause": "x"}, "This run failed: No room on disk."),
        ({"event": "finished", "complete": False, "iteration": 1, "elapsed_seconds": 5.0}, "it can be resumed"),
        ({"event": "started", "device": "x", "method": "y"}, "still training, or was interrupted"),
    ],
)
def test_a_run_without_end_or_predictions_has_a_report_that_says_so(
    tmp_path: Path, phantoms: Cohort, last: dict, said: str
) -> None:
    text = write_report(_make_run(tmp_path / "run", phantoms, _events(last))).read_text("utf-8")
    assert said in text
    assert "Its quality is not known" in text


def test_a_run_that_was_moved_away_from_its_scans_still_has_a_report(run: Path) -> None:
    cohort = load_cohort(run / "cohort.json")
    gone = Cohort(
        cohort.labeled, cohort.unlabeled, tuple(Case(c.id, Path("gone.nrrd"), c.label) for c in cohort.validation)
    )
    save_cohort(gone, run / "cohort.json")
    text = write_report(run).read_text("utf-8")
    assert "Outlines on the scan" not in text
    assert "45.00 ± 63.64" in text


def test_text_from_files_cannot_inject_markup(phantoms: Cohort, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    events = _events({"event": "failed", "message": evil, "cause": "x"})
    run = _make_run(tmp_path / "run", phantoms, events, METRICS.format(a=evil, b="b"))
    assert "script" not in _Page(write_report(run).read_text("utf-8")).tags


def test_figures_that_a_spreadsheet_saved_again_are_read_or_refused(run: Path) -> None:
    metrics = run / "metrics.csv"
    text, whole = metrics.read_text("utf-8"), write_report(run).read_text("utf-8")
    metrics.write_text(text, encoding="utf-8-sig")
    assert write_report(run).read_text("utf-8") == whole
    for changed in (text.replace(",", ";"), re.sub(r"(\d)\.(\d+)", r'"\1,\2"', text)):
        assert changed != text
        metrics.write_text(changed, encoding="utf-8")
        with pytest.raises(InputError, match=r"metrics\.csv: Wanted columns separated by commas"):
            write_report(run)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Wanted a run folder"):
        write_report(tmp_path)


def test_a_cut_line_is_passed_over_and_a_repeated_iteration_counts_once(tmp_path: Path) -> None:
    lines = [json.dumps({"event": "progress", "iteration": n, "losses": {"total": t}}) for n, t in ((1, 5), (2, 5))]
    again = json.dumps({"event": "progress", "iteration": 2, "losses": {"total": 7}})
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, '{"event": "progr', "[1]", again]), encoding="utf-8")
    events = read_events(tmp_path / "events.jsonl")
    assert [(event["iteration"], event["losses"]["total"]) for event in events] == [(1, 5), (2, 7)]


def test_events_that_lack_what_they_tell_are_passed_over(run: Path) -> None:
    """As of a file that was damaged, or comes from elsewhere."""
    events = run / "events.jsonl"
    text = events.read_text("utf-8")
    kinds = ("started", "progress", "validated", "finished", "failed", "warning")
    lines = [json.dumps({"event": kind}) for kind in kinds]
    lines += ['{"event": 1}', '{"event": "progress", "iteration": "1", "losses": []}', "[" * 100_000]
    try:
        events.write_text("\n".join([*lines, text, *lines]), encoding="utf-8")
        assert read_events(events) == [json.loads(line) for line in text.splitlines()]
        write_report(run)
    finally:
        events.write_text(text, encoding="utf-8")


def test_every_loss_is_drawn_with_its_like() -> None:
    names = ["total", "labeled", "labeled_in_unlabeled", "unlabeled_in_labeled", "cps_1", "mix_2", "sure"]
    found = _panels([*names, "consistency", "disagreement", "pseudo_label_volume"])
    assert found == {
        "on labels": ["labeled"],
        "each other's pseudo-labels": ["cps_1"],
        "mixed patches": ["mix_2"],
        "other losses": ["labeled_in_unlabeled", "unlabeled_in_labeled", "consistency"],
    }
    progress = [{"event": "progress", "iteration": n, "losses": {"consistency": 0.1 * n}} for n in (1, 2)]
    assert loss_curves(progress) is not None


def test_as_many_curves_as_methods_look_different() -> None:
    assert len({_look(number) for number in range(len(METHODS) * 2)}) == len(METHODS) * 2


def test_there_are_no_curves_of_nothing() -> None:
    assert loss_curves([]) is None
    assert dice_curves({"run": []}) is None


@pytest.mark.parametrize("header", ["plain", "anisotropic", "permuted"])
def test_overlays_draw_both_outlines(header: str) -> None:
    scan, label = make_phantom(3, header)
    moved = sitk.BinaryDilate(label, [2, 2, 2])
    both = imread(io.BytesIO(overlay_figure(scan, moved, label)))[..., :3]
    alone = imread(io.BytesIO(overlay_figure(scan, moved)))[..., :3]

    def pixels(picture: np.ndarray, color: str) -> int:
        wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return int((np.abs(picture - wanted).max(-1) < 0.1).sum())

    assert pixels(both, PREDICTION_COLOR) > 300
    assert pixels(both, LABEL_COLOR) > 300
    assert pixels(alone, LABEL_COLOR) == 0


def test_an_empty_prediction_is_drawn_as_none() -> None:
    scan, label = make_phantom(3)
    assert overlay_figure(scan, label * 0).startswith(b"\x89PNG")


def test_a_scan_of_one_slice_is_drawn() -> None:
    scan, label = make_phantom(2)
    one = label.GetSize()[2] // 2
    assert overlay_figure(scan[:, :, one : one + 1], label[:, :, one : one + 1]).startswith(b"\x89PNG")
