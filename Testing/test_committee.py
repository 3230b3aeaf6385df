"""Models that predict together: the mean of what each says, and only of models that see scans alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from LASegColearnLib.checkpoints import Model, load_model, save_checkpoint
from LASegColearnLib.command_line import main
from LASegColearnLib.committee import combined_model
from LASegColearnLib.device import choose_device
from LASegColearnLib.errors import InputError
from LASegColearnLib.losses import foreground_probability
from LASegColearnLib.methods import create_method
from LASegColearnLib.phantom import make_phantom
from LASegColearnLib.prediction import predict
from LASegColearnLib.predictor import Predictor
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import Settings

SETTINGS = Settings(spacing_mm=(5.0, 5.0, 5.0), patch_size=(16, 16, 32), filters=2, dropout=0.0, precision="float32")


def _run(folder: Path, settings: Settings = SETTINGS, iteration: int = 3) -> RunFolder:
    """A run with a checkpoint of networks that have learned nothing, by the settings' seed."""
    torch.manual_seed(settings.seed)
    method = create_method(settings)
    run = RunFolder(folder)
    save_checkpoint(
        run.last_checkpoint,
        {
            "settings": settings.to_dict(),
            "networks": {name: network.state_dict() for name, network in method.networks.items()},
            "method_state": method.state(),
            "iteration": iteration,
        },
    )
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    return [_run(tmp_path / f"run-{seed}", replace(SETTINGS, seed=seed), 3 + seed) for seed in (1, 2, 3)]


@pytest.fixture
def models(runs: list[RunFolder]) -> list[Model]:
    return [load_model(run.last_checkpoint) for run in runs]


def test_a_committee_says_the_mean_of_its_members_probabilities(models: list[Model]) -> None:
    patch = torch.randn(2, 1, 16, 16, 32, generator=torch.Generator().manual_seed(0))
    model = combined_model(models)
    assert (model.predictor, model.iteration) == ("committee", 4)
    assert list(model.networks) == ["committee", "model_1", "model_2", "model_3"]
    with torch.no_grad():
        each = [foreground_probability(one.networks["teacher"](patch)) for one in models]
        found = foreground_probability(model.networks["committee"](patch))
        own = foreground_probability(model.networks["model_2"](patch))
    assert float((each[0] - each[1]).abs().max()) > 0.01
    torch.testing.assert_close(found, torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)
    assert torch.equal(own, each[1])


def test_one_model_alone_stays_as_it_is(models: list[Model]) -> None:
    assert combined_model(models[:1]) is models[0]


def test_models_that_see_scans_in_different_ways_are_refused_all_at_once(models: list[Model]) -> None:
    others = [
        replace(models[1], settings=replace(models[1].settings, spacing_mm=(4.0, 5.0, 5.0))),
        replace(models[2], settings=replace(models[2].settings, logit_shift=0.4)),
    ]
    with pytest.raises(InputError) as refusal:
        combined_model([models[0], *others])
    first, second = map(str, refusal.value.problems)
    assert first.startswith("model 2: Wanted spacing_mm 5.0,5.0,5.0, as the first model has it, found 4.0,5.0,5.0.")
    assert second.startswith("model 3: Wanted logit_shift 0.0, as the first model has it, found 0.4.")


def test_a_committee_describes_a_scan_by_all_its_members(models: list[Model]) -> None:
    array = np.random.default_rng(0).normal(size=(16, 16, 32)).astype(np.float32)
    place = choose_device("cpu", "float32")
    parts = [Predictor(model, device=place).descriptor(array) for model in models]
    np.testing.assert_allclose(
        Predictor(combined_model(models), device=place).descriptor(array), np.concatenate(parts), rtol=1e-5
    )


def test_the_command_predicts_with_several_runs(runs: list[RunFolder], tmp_path: Path) -> None:
    scan = tmp_path / "vorhof.nrrd"
    sitk.WriteImage(make_phantom(3)[0], scan)
    command = ["predict", "--output", str(tmp_path / "out"), "--volumes", "--device", "cpu", str(scan)]
    assert main([*command, "--run", str(runs[0].path), "--run", str(runs[1].path)]) == 0
    figures = json.loads((tmp_path / "out" / "vorhof" / "figures.json").read_text("utf-8"))
    assert (figures["network"], figures["model"]["iteration"]) == ("committee", 4)
    assert set(figures["agreement"]) == {"mean", "model_1, model_2"}
    single = {}
    for run in runs[:2]:
        predict(run.last_checkpoint, [("vorhof", scan)], tmp_path / run.path.name, volumes=True, device="cpu")
        single[run.path.name] = _probability(tmp_path / run.path.name / "vorhof")
        own = json.loads((tmp_path / run.path.name / "vorhof" / "figures.json").read_text("utf-8"))
        assert own["model"]["weights"] != figures["model"]["weights"]
    assert np.abs(single["run-1"] - single["run-2"]).max() > 0.01
    np.testing.assert_allclose(
        _probability(tmp_path / "out" / "vorhof"), (single["run-1"] + single["run-2"]) / 2, atol=1e-4
    )


def _probability(folder: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(folder / "probability.nrrd"))
