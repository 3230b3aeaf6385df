"""Methods compared: trained alike, gone on with where it was broken off, and one page that says who is better."""

from __future__ import annotations

import html
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from LASegColearnLib import comparison
from LASegColearnLib.cohort import Case, load_cohort, save_cohort
from LASegColearnLib.command_line import main
from LASegColearnLib.comparison import Plan, _high_water_gb, compare, read_trained
from LASegColearnLib.comparison_page import cost_rows, difference_rows, table_rows
from LASegColearnLib.device import choose_device
from LASegColearnLib.errors import InputError, TrainingError
from LASegColearnLib.events import EventLog
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.published_protocol import PUBLISHED_OVERLAP
from LASegColearnLib.run_folder import RunFolder, write_json_atomically
from LASegColearnLib.settings import Settings, preset
from LASegColearnLib.windows import foreground_by_windows

SMALL = ("spacing_mm=5,5,5", "patch_size=16,16,16", "filters=2", "normalization=group", "precision=float32")
PLAN = Plan(("colearning", "supervised"), (2,), iterations=2, preset="demo", changes=SMALL)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("my scans")
    return write_phantom_cohort(folder, labeled=3, unlabeled=2, validation=3, seed=3)


@pytest.fixture(scope="module")
def compared(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("compared")
    assert compare(cohort, output, PLAN, device="cpu") == output / "comparison.html"
    return output


def test_the_page_has_a_row_for_each_method_and_names_no_path(compared: Path, cohort: Path) -> None:
    page = html.unescape((compared / "comparison.html").read_text("utf-8"))
    assert "2 labeled, 3 unlabeled" in page
    for method in PLAN.methods:
        assert len(re.findall(rf'<td class="text">{method}</td>', page)) >= 3
    assert page.count("data:image/png;base64,") == 5, "Curves, and the median and the worst case of each method."
    assert "my scans" not in page and str(cohort.parent) not in page
    note = json.loads((compared / "colearning-2-seed0" / "comparison.json").read_text("utf-8"))
    assert note["complete"] and 0.1 < note["peak_memory_gb"] < 8
    assert [row["unit"] for row in note["published"]] == ["voxel"] * 3
    assert [row["unit"] for row in note["own"]] == ["mm"] * 3


def test_the_page_says_how_many_models_predict_and_if_one_was_lost(compared: Path) -> None:
    assert "<th>models that predict together</th>" in (compared / "comparison.html").read_text("utf-8")
    trained = read_trained(compared, PLAN)
    assert [row["models"] for row in cost_rows(trained, PLAN.methods)] == ["1", "1"]
    lost = [replace(trained[0], models=2), *trained]
    assert [row["models"] for row in cost_rows(lost, PLAN.methods)] == ["1 or 2", "1"]


def test_the_unlabeled_ones_labels_are_not_named_to_a_training(compared: Path) -> None:
    members = load_cohort(compared / "supervised-2-seed0.cohort.json")
    assert len(members.labeled) == 2
    assert all(case.label is None for case in members.unlabeled)


def test_what_is_done_is_not_done_again_and_other_settings_are_refused(compared: Path, cohort: Path) -> None:
    checkpoint = compared / "colearning-2-seed0" / "checkpoints" / "last.pt"
    before = checkpoint.stat().st_mtime_ns
    told: list[dict] = []
    compare(cohort, compared, PLAN, device="cpu", listeners=[told.append])
    assert checkpoint.stat().st_mtime_ns == before
    assert {event["event"] for event in told} == {"comparing"}
    with pytest.raises(InputError, match="made with other settings or for another time"):
        compare(cohort, compared, replace(PLAN, iterations=3), device="cpu")


@pytest.mark.parametrize("damage", ["", "[1]", "{", '{"wanted": {}}', '{"complete": true, "wanted": 1}'])
def test_a_damaged_note_of_a_training_is_told_and_left_as_it_is(
    damage: str, compared: Path, cohort: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(compared, tmp_path / "compared")
    note = output / "colearning-2-seed0" / "comparison.json"
    note.write_text(damage, encoding="utf-8")
    with pytest.raises(
        InputError, match=r"colearning-2-seed0: Wanted the note .* in comparison\.json, found a damaged"
    ):
        compare(cohort, output, PLAN, device="cpu")
    assert note.read_text("utf-8") == damage


def test_figures_of_a_note_and_the_record_of_a_training_may_be_damaged_as_well(
    compared: Path, cohort: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(compared, tmp_path / "compared")
    run = output / "colearning-2-seed0"
    (run / "events.jsonl").write_text('{"event": "finished"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="colearning-2-seed0: Its events.jsonl does not say how the training ended"):
        compare(cohort, output, PLAN, device="cpu")
    content = json.loads((run / "comparison.json").read_text("utf-8"))
    content["own"][0].pop("metrics")
    (run / "comparison.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="found a damaged file"):
        compare(cohort, output, PLAN, device="cpu")


def test_results_of_another_cohort_are_refused_before_anything_is_trained(
    compared: Path, cohort: Path, tmp_path: Path
) -> None:
    whole = load_cohort(cohort)
    fewer = tmp_path / "fewer.json"
    save_cohort(replace(whole, validation=whole.validation[:2]), fewer)
    told: list[dict] = []
    plan = replace(PLAN, methods=("ua_mt", "colearning"))
    with pytest.raises(InputError, match="colearning-2-seed0: The cohort, or a file of it, has changed"):
        compare(fewer, compared, plan, device="cpu", listeners=[told.append])
    assert [event["event"] for event in told] == ["failed"]
    # The first is corrected; the other counts as unlabeled and has no label here, whatever becomes of it.
    for label, matters in ((whole.labeled[0].label, True), (whole.labeled[2].label, False)):
        before = label.read_bytes()
        label.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        try:
            if matters:
                with pytest.raises(InputError, match="has changed since"):
                    compare(cohort, compared, PLAN, device="cpu")
            else:
                assert compare(cohort, compared, PLAN, device="cpu") is not None
        finally:
            label.write_bytes(before)
    # A copy on another disk has the time at which it was made.
    os.utime(whole.labeled[0].image)
    os.utime(whole.labeled[0].label)
    assert compare(cohort, compared, PLAN, device="cpu") is not None


def test_results_from_before_the_cohort_was_noted_are_taken(compared: Path, cohort: Path, tmp_path: Path) -> None:
    earlier = shutil.copytree(compared, tmp_path / "compared")
    for method in PLAN.methods:
        note = earlier / f"{method}-2-seed0" / "comparison.json"
        content = json.loads(note.read_text("utf-8"))
        del content["files"]
        note.write_text(json.dumps(content), encoding="utf-8")
    told: list[dict] = []
    whole = load_cohort(cohort)
    save_cohort(replace(whole, validation=whole.validation[:1]), tmp_path / "fewer.json")
    page = compare(tmp_path / "fewer.json", earlier, PLAN, device="cpu", listeners=[told.append])
    assert page is not None and {event["event"] for event in told} == {"comparing"}


def test_a_comparison_that_was_broken_off_goes_on_where_it_was(cohort: Path, tmp_path: Path) -> None:
    plan = replace(PLAN, methods=("supervised",), iterations=400)
    seen: list[dict] = []

    def stop() -> bool:
        return any(event["event"] == "progress" for event in seen)

    assert compare(cohort, tmp_path, plan, device="cpu", listeners=[seen.append], should_stop=stop) is None
    assert not (tmp_path / "comparison.html").exists()
    stopped = next(event["iteration"] for event in seen if event["event"] == "finished")
    assert 0 < stopped < 400
    seen.clear()
    assert compare(cohort, tmp_path, plan, device="cpu", listeners=[seen.append]) is not None
    assert next(event["iteration"] for event in seen if event["event"] == "started") == stopped
    assert next(event["iteration"] for event in seen if event["event"] == "finished") == 400


def test_all_that_is_wrong_with_a_plan_is_said_before_anything_is_trained(cohort: Path, tmp_path: Path) -> None:
    plan = Plan(("colearning", "alchemy"), (2, 9), minutes=1.0, iterations=2)
    with pytest.raises(InputError) as raised:
        compare(cohort, tmp_path / "out", plan)
    said = str(raised.value)
    assert "There is no method alchemy" in said and "found 9" in said and "one of them" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seeds": ()}, "--seeds: Wanted at least one, found none."),
        ({"iterations": None, "minutes": -1.0}, "--minutes: Wanted a finite time above 0, found -1."),
        ({"iterations": None, "minutes": math.inf}, "--minutes: Wanted a finite time above 0, found inf."),
        ({"iterations": 0}, "--iterations: Wanted at least 1, found 0."),
        ({"labeled": (2, 2)}, "--labeled: Wanted each once, found 2 more than once."),
        ({"methods": ("supervised", "supervised")}, "--methods: Wanted each once, found supervised more than once."),
        ({"labeled": (2, 1)}, "--labeled: Wanted at least 2 labels for colearning, found 1."),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(cohort: Path, tmp_path: Path, changed: dict, said: str) -> None:
    told: list[dict] = []
    with pytest.raises(InputError) as raised:
        compare(cohort, tmp_path / "out", replace(PLAN, **changed), device="cpu", listeners=[told.append])
    assert said in str(raised.value)
    assert [event["event"] for event in told] == ["failed"]


def test_scans_too_few_for_a_later_method_and_a_device_that_is_not_there_are_refused(
    cohort: Path, tmp_path: Path
) -> None:
    whole = replace(load_cohort(cohort), unlabeled=())
    plan = replace(PLAN, methods=("supervised", "ua_mt"), labeled=(2,))
    assert [str(problem) for problem in plan.problems(whole)] == [
        "cohort: Wanted at least 2 unlabeled scans for ua_mt with 2 labels, found 1. Add scans without labels, or give "
        "a smaller --labeled."
    ]
    assert replace(plan, methods=("supervised",)).problems(whole) == []
    with pytest.raises(InputError, match="--device: Wanted auto, cuda, cuda:N, mps or cpu, found 'abacus'"):
        compare(cohort, tmp_path / "out", plan, device="abacus")
    assert not (tmp_path / "out").exists()


def test_a_training_that_fails_before_it_has_a_record_is_told_once_in_its_own_words(
    cohort: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "supervised-2-seed0" / "checkpoints" / "last.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"half a checkpoint")
    write_json_atomically(checkpoint.parent.parent / "settings.json", preset("demo").to_dict())
    told: list[dict] = []
    with pytest.raises(TrainingError, match="supervised-2-seed0: last.pt: .*damaged"):
        compare(cohort, tmp_path, replace(PLAN, methods=("supervised",)), device="cpu", listeners=[told.append])
    assert [event["event"] for event in told] == ["comparing", "failed"]


def test_a_stop_between_trainings_is_heard_before_the_next(compared: Path, cohort: Path) -> None:
    told: list[dict] = []
    assert compare(cohort, compared, PLAN, device="cpu", listeners=[told.append], should_stop=lambda: True) is None
    assert [event["event"] for event in told] == ["stopped"]
    told.clear()
    plan = replace(PLAN, methods=("colearning", "ua_mt"))
    answers = iter([False, True])
    stopped = compare(cohort, compared, plan, device="cpu", listeners=[told.append], should_stop=lambda: next(answers))
    assert stopped is None
    assert [event["event"] for event in told] == ["comparing", "stopped"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Only Linux keeps this account.")
def test_a_processes_peak_memory_is_its_own_and_not_its_parents() -> None:
    ballast = np.ones(400_000_000 // 8)
    command = [sys.executable, "-c", "print('there', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        found = _high_water_gb(process.pid)
        process.communicate(b"\n")
    assert found is not None and 0.002 < found < 0.1 < ballast.nbytes / 1e9
    assert _high_water_gb(process.pid) is None


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Only Linux keeps this account.")
def test_the_memory_of_what_a_process_has_started_counts() -> None:
    own = Path(f"/proc/self/task/{os.getpid()}/children")
    if not own.exists():
        pytest.skip("This Linux does not say who a process has started.")
    second = "held = bytearray(200_000_000); print('there', flush=True); input()"
    first = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {second!r}])"
    with subprocess.Popen([sys.executable, "-c", first], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        found = _high_water_gb(process.pid)
        process.communicate(b"\n")
    assert found is not None and 0.2 < found < 0.3


def test_the_memory_of_models_that_are_trained_at_once_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        pytest.skip("This system does not say who a process has started.")
    second = "held = bytearray(200_000_000); print('there', flush=True); input()"
    script = f"""
import subprocess, sys
with subprocess.Popen([sys.executable, "-c", {second!r}], stdin=-1, stdout=-1) as other:
    other.stdout.readline()
    print('{{"event": "progress"}}', flush=True)
    import time; time.sleep(1)
    other.communicate(b"\\n")
print('{{"event": "finished", "complete": true}}', flush=True)
import time; time.sleep(1)
"""

    def start(arguments: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, encoding="utf-8")

    monkeypatch.setattr(comparison, "start_training", start)
    complete, peak = comparison._child([], RunFolder(tmp_path), EventLog(None), lambda: False)
    assert complete and peak is not None and 0.2 < peak < 0.3


def test_a_comparison_of_one_model_does_not_go_on_with_two(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Plan(("supervised",), (2,), iterations=2, preset="demo")
    which = ("supervised", 2, 0)
    kept = comparison._wanted(one, which)
    assert kept["committee"] == 1
    members = load_cohort(cohort)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    # As notes were before several could be trained at once.
    before = {name: value for name, value in kept.items() if name != "committee"}
    note = {"wanted": before, "complete": False, "peak_memory_gb": None}
    (run.path / "comparison.json").write_text(json.dumps(note), encoding="utf-8")
    assert not list(comparison._problems_of_kept(run, members, one, which))
    two = replace(one, changes=("committee=2",))
    (run.path / "comparison.json").write_text(
        json.dumps({**note, "wanted": {**before, "plan": comparison._wanted(two, which)["plan"]}}), encoding="utf-8"
    )
    (problem,) = comparison._problems_of_kept(run, members, two, which)
    assert "made with other settings" in problem.cause


def test_the_command_compares_and_says_where_the_page_is(
    compared: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", "--cohort", str(cohort), "--methods", "colearning,supervised", "--labeled", "2"]
    arguments += ["--iterations", "2", "--preset", "demo", "--device", "cpu", "--output", str(compared)]
    assert main([*arguments, "--set", *SMALL]) == 0
    assert capsys.readouterr().out.strip() == str(compared / "comparison.html")
    assert main([*arguments[:6], "two", *arguments[7:]]) == 2
    assert "Wanted whole numbers, found 'two'" in capsys.readouterr().err


def test_trainings_run_nothing_that_lies_where_they_were_started(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "argparse.py").write_text("raise SystemExit('run from here')")
    monkeypatch.chdir(tmp_path)
    arguments = ["compare", "--cohort", str(cohort), "--methods", "supervised", "--labeled", "2", "--iterations", "1"]
    assert main([*arguments, "--preset", "demo", "--device", "cpu", "--output", "compared", "--set", *SMALL]) == 0
    assert (tmp_path / "compared" / "comparison.html").exists()


def test_differences_are_paired_by_case_and_averaged_over_seeds(compared: Path) -> None:
    def row(case: str, dice: float) -> SimpleNamespace:
        return SimpleNamespace(
            case=case, metrics=SimpleNamespace(dice=dice, jaccard=dice, hd95=float("nan"), asd=float("nan"))
        )

    def trained(method: str, *dice: float) -> SimpleNamespace:
        # Another order of the cases must not matter.
        rows = [row(str(number), value) for number, value in enumerate(dice)][:: 1 if method == "a" else -1]
        return SimpleNamespace(method=method, published=rows)

    runs = [trained("a", 0.9, 0.8, 0.7), trained("a", 0.8, 0.7, 0.6), trained("b", 0.80, 0.70, 0.59)]
    (found,) = difference_rows(runs, ["a", "b"])  # type: ignore[arg-type]
    assert (found["mean"], found["verdict"], found["cases"]) == ("+5.33", "better", 3)
    rows = table_rows(runs, ["a", "b"], "published")  # type: ignore[arg-type]
    assert rows[0]["cells"][0] == "75.00 ± 10.49"
    assert rows[0]["cells"][2] == "–"


def test_methods_that_were_evaluated_on_other_cases_have_no_difference() -> None:
    def trained(method: str, *cases: str) -> SimpleNamespace:
        rows = [SimpleNamespace(case=case, metrics=SimpleNamespace(dice=0.8)) for case in cases]
        return SimpleNamespace(method=method, published=rows)

    runs = [trained("a", "1", "2"), trained("b", "1", "3"), trained("c", "1")]
    rows = difference_rows(runs, ["a", "b", "c"])  # type: ignore[arg-type]
    assert [row["mean"] for row in rows] == ["–", "–"]
    assert {row["verdict"] for row in rows} == {"not comparable: evaluated on other cases"}


def test_published_windows_overlap_densely_and_count_alike() -> None:
    settings = Settings(patch_size=(16, 16, 16))
    starts: list[int] = []

    class Ramp(torch.nn.Module):
        """Foreground by the place in the window, so that the weights of overlapping windows can be told."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            starts.extend([0] * len(x))
            place = torch.linspace(-3, 3, 16)[:, None, None].expand(16, 16, 16)
            return torch.stack([torch.zeros_like(x[:, 0]), place.expand(len(x), 16, 16, 16)], 1)

    image = torch.zeros(1, 1, 20, 16, 16)
    device = choose_device("cpu", "float32")
    found = foreground_by_windows(Ramp(), image, settings, device, PUBLISHED_OVERLAP, "constant")
    # Strides of 16 x 18/112 voxels, 2 by MONAI's rounding: windows at 0, 2 and 4.
    assert len(starts) == 3
    window = torch.sigmoid(torch.linspace(-3, 3, 16))
    expected = torch.zeros(20)
    count = torch.zeros(20)
    for start in (0, 2, 4):
        expected[start : start + 16] += window
        count[start : start + 16] += 1
    np.testing.assert_allclose(found[:, 0, 0].numpy(), (expected / count).numpy(), rtol=1e-5)


def test_the_zoom_holds_for_the_published_protocol_too(tmp_path: Path) -> None:
    from LASegColearnLib.checkpoints import Model
    from LASegColearnLib.published_protocol import evaluate_as_published

    class Counting(torch.nn.Module):
        windows = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.windows += len(x)
            return torch.cat([-x, x], 1)

    (case,) = load_cohort(write_phantom_cohort(tmp_path, labeled=1, unlabeled=0, validation=0)).labeled
    shown = []
    for zoom in (1.0, 1.25):
        network = Counting()
        settings = Settings(patch_size=(32, 32, 32), spacing_mm=(5.0, 5.0, 5.0), zoom=zoom)
        model = Model(settings, {"teacher": network}, "teacher", 0)
        evaluate_as_published(model, [case], choose_device("cpu", "float32"))
        shown.append(network.windows)
    assert shown[1] > 2 * shown[0]


def test_a_case_without_label_cannot_be_evaluated_as_published(tmp_path: Path) -> None:
    from LASegColearnLib.checkpoints import Model
    from LASegColearnLib.methods import create_method
    from LASegColearnLib.published_protocol import evaluate_as_published

    method = create_method(Settings(filters=2))
    model = Model(method.settings, method.networks, method.predictor, 0)
    with pytest.raises(InputError, match="Wanted a label to compare with"):
        evaluate_as_published(model, [Case("a", tmp_path / "a.nrrd")], choose_device("cpu", "float32"))


def test_a_file_called_stop_that_is_not_of_a_comparison_stays(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = tmp_path / "stop"
    stop.write_text("notes", encoding="utf-8")
    command = ["compare", "--cohort", str(cohort), "--output", str(tmp_path), "--methods", "supervised"]
    assert main([*command, "--iterations", "1", "--preset", "demo"]) == 2
    assert "is not a comparison's and would be removed. Rename it" in capsys.readouterr().err
    assert stop.read_text("utf-8") == "notes"
    stop.unlink()
    # Of one of its trainings, too.
    run = tmp_path / "supervised-2-seed0"
    run.mkdir()
    (run / "stop").write_text("notes", encoding="utf-8")
    plan = Plan(("supervised",), (2,), iterations=2, preset="demo", changes=SMALL)
    with pytest.raises(InputError, match="A file called stop lies in this folder"):
        compare(cohort, tmp_path, plan, device="cpu")
    assert (run / "stop").read_text("utf-8") == "notes"
