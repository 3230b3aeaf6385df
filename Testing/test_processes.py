"""Several processes, started by PyTorch's torchrun, train to the weights of one and share the scans to predict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from LASegColearnLib.checkpoints import load_checkpoint
from LASegColearnLib.cohort import load_cohort
from LASegColearnLib.device import Device
from LASegColearnLib.errors import InputError
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.processes import Processes, local_device, processes_from_environment
from LASegColearnLib.settings import Settings
from LASegColearnLib.training import _require_one_precision

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="PyTorch without Gloo"
)
ENGINE = Path(__file__).parents[1] / "LASegColearn"
SMALL = (
    "spacing_mm=5,5,5",
    "patch_size=16,16,16",
    "filters=2",
    "pretraining=0.34",
    "validations=2",
    "precision=float32",
)


def _run(
    *arguments: str, processes: int = 1, start: tuple[str, ...] = ("-m", "LASegColearnLib")
) -> subprocess.CompletedProcess[str]:
    together = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}") if processes > 1 else ()
    environment = {**os.environ, "PYTHONPATH": str(ENGINE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *together, *start, "--", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def _train(
    cohort: Path, run: Path, processes: int = 1, more: tuple[str, ...] = (), **start: tuple[str, ...]
) -> subprocess.CompletedProcess[str]:
    options = [f"--set={setting}" for setting in (*SMALL, *more)]
    return _run(
        *("train", "--cohort", str(cohort), "--run", str(run), "--iterations", "6", "--device", "cpu", "--events"),
        *options,
        processes=processes,
        **start,
    )


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_cohort(tmp_path_factory.mktemp("phantoms"), labeled=3, unlabeled=3, validation=3, seed=3)


@pytest.fixture(scope="module")
def runs(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same training by one process in two parts, and by two processes."""
    folder = tmp_path_factory.mktemp("runs")
    one = _train(cohort, folder / "one", more=("batch_parts=2",))
    assert one.returncode == 0, one.stderr
    two = _train(cohort, folder / "two", processes=2)
    assert two.returncode == 0, two.stderr
    return {"one": folder / "one", "two": folder / "two"}


def test_two_processes_reach_the_weights_of_one_with_the_same_batch(runs: dict[str, Path]) -> None:
    one, two = (load_checkpoint(run / "checkpoints" / "last.pt") for run in runs.values())
    assert one["iteration"] == two["iteration"] == 6
    assert one["method_state"] == two["method_state"]
    for name, tensors in one["networks"].items():
        for key, value in tensors.items():
            torch.testing.assert_close(two["networks"][name][key], value, rtol=1e-3, atol=1e-5, msg=f"{name}.{key}")
    assert two["best"] == pytest.approx(one["best"], abs=1e-3)


def test_they_share_the_scans_that_the_teacher_labels(runs: dict[str, Path]) -> None:
    labels = [sorted(run.glob("cache/**/*.taught-*.npy")) for run in runs.values()]
    assert len(labels[0]) == len(labels[1]) == 3
    for one, two in zip(*labels, strict=True):
        assert one.name == two.name
        assert np.mean(np.load(one) != np.load(two)) < 0.01


def test_only_the_first_process_writes_and_tells(runs: dict[str, Path]) -> None:
    events = [json.loads(line) for line in (runs["two"] / "events.jsonl").read_text("utf-8").splitlines()]
    names = [event["event"] for event in events]
    assert names.count("started") == names.count("finished") == 1
    assert names.count("validated") == 2
    # Its own two of the three scans, in each round.
    assert {event["of"] for event in events if event["event"] == "labeling"} == {2}
    assert any("shared by 2 processes" in event.get("message", "") for event in events)
    assert Settings.read(runs["two"] / "settings.json").batch_parts == 2


def test_prediction_shares_the_scans(runs: dict[str, Path], cohort: Path, tmp_path: Path) -> None:
    scans = [str(case.image) for case in load_cohort(cohort).validation]
    options = ("--run", str(runs["two"]), "--output", str(tmp_path), "--device", "cpu", "--events")
    done = _run("predict", *options, *scans, processes=2)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*/segmentation.seg.nrrd"))) == 3
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len([event for event in told if event["event"] == "predicted"]) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="The threads' names are read from /proc")
def test_the_threads_that_exchange_end_before_the_interpreter_does(cohort: Path, tmp_path: Path) -> None:
    """One that is still at work then aborts the process, now and then, whatever it has reached."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from contextlib import suppress\n"
        "from pathlib import Path\n"
        "from LASegColearnLib.command_line import main\n"
        "code = main([argument for argument in sys.argv[1:] if argument != '--'])\n"
        "names = []\n"
        "for file in Path('/proc/self/task').glob('*/comm'):\n"
        "    with suppress(OSError):\n"
        "        names.append(file.read_text())\n"
        "sys.exit(code or 7 * any('gloo' in name for name in names))\n",
        encoding="utf-8",
    )
    done = _train(cohort, tmp_path / "run", processes=2, start=(str(script),))
    assert done.returncode == 0, done.stderr


def test_a_process_that_fails_does_not_wait_for_the_others(cohort: Path, tmp_path: Path) -> None:
    """NCCL's groups end together: there, it would wait for those that wait for it. So does this script's."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "import torch.distributed as distributed\n"
        "from LASegColearnLib.command_line import main\n"
        "from LASegColearnLib.training_step import TrainingStep\n"
        "step, made = TrainingStep.__call__, []\n"
        "def fails(*arguments):\n"
        "    made.append(1)\n"
        "    if os.environ['RANK'] == '1' and len(made) == 3:\n"
        "        raise ValueError('Broken here.')\n"
        "    return step(*arguments)\n"
        "TrainingStep.__call__ = fails\n"
        "distributed.destroy_process_group = lambda: time.sleep(1000)\n"
        "sys.exit(main([argument for argument in sys.argv[1:] if argument != '--']))\n",
        encoding="utf-8",
    )
    done = _train(cohort, tmp_path / "run", processes=2, start=(str(script),))
    assert done.returncode != 0
    assert "ValueError: Broken here." in (tmp_path / "run" / "log.txt").read_text("utf-8")


def test_a_batch_that_cannot_be_shared_is_refused_with_the_remedy(cohort: Path, tmp_path: Path) -> None:
    done = _train(cohort, tmp_path / "run", processes=2, more=("labeled_batch=3",))
    assert done.returncode != 0
    assert "2 processes can share evenly, found 3 labeled and 2 unlabeled" in done.stdout
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_wrong_cohort_ends_all_processes_with_one_sentence(cohort: Path, tmp_path: Path) -> None:
    content = json.loads(cohort.read_text("utf-8"))
    content["unlabeled"] = content["unlabeled"][:1]
    wrong = cohort.with_name("wrong.json")
    wrong.write_text(json.dumps(content), encoding="utf-8")
    done = _train(wrong, tmp_path / "run", processes=2)
    assert done.returncode != 0
    assert done.stdout.count('"event": "failed"') == 1
    # The others end, too, and are not broken off with the group in their hands.
    assert "terminate called" not in done.stderr and "SIGABRT" not in done.stderr


def test_a_scan_that_cannot_be_read_leaves_the_other_processes_their_scans(
    runs: dict[str, Path], cohort: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.nrrd"
    damaged.write_bytes(b"NRRD0004\n")
    whole = str(load_cohort(cohort).cases[0].image)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\n"
        "from LASegColearnLib.command_line import main\n"
        "from LASegColearnLib.predictor import Predictor\n"
        "predict = Predictor.predict\n"
        "def slowly(*arguments, **options):\n"
        "    time.sleep(3)\n"
        "    return predict(*arguments, **options)\n"
        "Predictor.predict = slowly\n"
        "sys.exit(main([argument for argument in sys.argv[1:] if argument != '--']))\n",
        encoding="utf-8",
    )
    options = ("--run", str(runs["two"]), "--output", str(tmp_path / "output"), "--device", "cpu", "--events")
    # The first process has the damaged one, and is done while the second still segments.
    done = _run("predict", *options, str(damaged), whole, processes=2, start=(str(script),))
    assert done.returncode != 0
    assert done.stdout.count('"event": "failed"') == 1 and "damaged" in done.stdout
    assert len(list((tmp_path / "output").glob("*/segmentation.seg.nrrd"))) == 1


def test_at_a_stop_the_others_wait_until_the_first_has_saved(cohort: Path, tmp_path: Path) -> None:
    """Half a minute after one has ended, torchrun kills the rest."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from LASegColearnLib import trainer\n"
        "from LASegColearnLib.command_line import main\n"
        "here, rank = Path(__file__).parent, os.environ['RANK']\n"
        "save, agreed = trainer.save_checkpoint, trainer.Trainer._agreed\n"
        "def slowly(*arguments):\n"
        "    time.sleep(3)\n"
        "    save(*arguments)\n"
        "    (here / 'saved').write_text(str(time.time()))\n"
        "def stopping(self):\n"
        "    if rank == '0' and self.iteration == 2:\n"
        "        self.run.stop_file.touch()\n"
        "    return agreed(self)\n"
        "trainer.save_checkpoint, trainer.Trainer._agreed = slowly, stopping\n"
        "code = main([argument for argument in sys.argv[1:] if argument != '--'])\n"
        "(here / f'ended-{rank}').write_text(str(time.time()))\n"
        "sys.exit(code)\n",
        encoding="utf-8",
    )
    done = _train(cohort, tmp_path / "run", processes=2, more=("checkpoints=1", "validations=0"), start=(str(script),))
    assert done.returncode != 0
    assert '"complete": false' in (tmp_path / "run" / "events.jsonl").read_text("utf-8")
    saved, ended = (float((tmp_path / name).read_text("utf-8")) for name in ("saved", "ended-1"))
    assert ended >= saved


def test_a_rank_of_something_else_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert processes_from_environment() == Processes(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes_from_environment() == Processes(1, 2)


def test_parts_and_items_are_shared_without_gap_or_overlap() -> None:
    three = [Processes(rank, 3) for rank in range(3)]
    assert sorted(part for one in three for part in one.parts(6)) == list(range(6))
    assert sorted(item for one in three for item in one.share("abcdefg")) == list("abcdefg")
    assert Processes().parts(4) == range(4)


def test_one_gpu_for_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="Wanted a GPU for each process, found cuda:0"):
        local_device("cuda:0")
    assert local_device("cpu") == "cpu"


def test_unlike_gpus_are_told_to_use_one_precision() -> None:
    class Unlike(Processes):
        def all_gather(self, value: float) -> list[int]:
            return [0, round(value)]

    def place(precision: torch.dtype) -> Device:
        return Device(torch.device("cpu"), precision, "")

    with pytest.raises(InputError, match="torchrun: Wanted one precision for all processes"):
        _require_one_precision(Unlike(1, 2), place(torch.float16))
    _require_one_precision(Unlike(1, 2), place(torch.float32))
    _require_one_precision(Processes(), place(torch.bfloat16))


def test_several_processes_use_no_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert local_device("auto") == "cpu"
    for device in ("mps", "mps:0"):
        with pytest.raises(InputError, match=f"Wanted CUDA or processors for several processes, found {device}"):
            local_device(device)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert local_device("mps") == "mps"
