"""UA-MT: noise, the number of passes, the threshold, and what is left out of the agreement."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from batches import noise_batch
from LASegColearnLib.losses import cross_entropy, dice_loss, foreground_probability
from LASegColearnLib.methods.ua_mt import UncertaintyAwareMeanTeacher, masked_consistency, threshold
from LASegColearnLib.settings import Settings

SIDE = (32, 16, 16)
PLAIN = Settings(patch_size=SIDE, filters=2, dropout=0.0, normalization="instance")


def _method(**changes) -> UncertaintyAwareMeanTeacher:
    torch.manual_seed(3)
    return UncertaintyAwareMeanTeacher(replace(PLAIN, **changes))


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.75168), (0.5, 0.82163), (1.0, 1.0)])
def test_the_threshold_rises_from_three_quarters_of_ln_2_to_ln_2(progress: float, expected: float) -> None:
    assert threshold(progress) / math.log(2) == pytest.approx(expected, abs=1e-5)


def test_the_teacher_looks_once_for_the_target_and_eight_times_for_the_uncertainty_each_time_with_new_noise() -> None:
    method = _method()
    seen: list[torch.Tensor] = []
    method.teacher.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    patches = noise_batch(SIDE).unlabeled
    method.teachers_opinion(patches)
    assert [len(inputs) for inputs in seen] == [2, 4, 4, 4, 4]
    noises = torch.cat([inputs.unflatten(0, (-1, 2)) - patches for inputs in seen])
    assert len(noises) == 1 + 8
    assert float(noises.abs().max()) == pytest.approx(0.2, abs=1e-5)
    # A normal distribution of width 0.1, cut at two widths.
    assert float(noises.std()) == pytest.approx(0.0959, abs=0.001)
    assert all(not torch.allclose(one, other) for i, one in enumerate(noises) for other in noises[:i])


def test_the_uncertainty_is_the_entropy_of_the_eight_passes_mean() -> None:
    method = _method()
    answers = iter([0.3, *[0.1, 0.5, 0.2, 0.9, 0.5, 0.5, 0.7, 0.6]])

    def answer(_, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        output = torch.zeros_like(output)
        for copy in output.unflatten(0, (-1, 2)).unbind(0):
            copy[:, 1] = torch.logit(torch.tensor(next(answers)))
        return output

    method.teacher.register_forward_hook(answer)
    target, uncertainty = method.teachers_opinion(noise_batch(SIDE).unlabeled)
    assert target.unique().tolist() == pytest.approx([0.3])
    mean = 0.5
    assert float(uncertainty.mean()) == pytest.approx(-2 * mean * math.log(mean + 1e-6), abs=1e-5)


def test_the_agreement_is_the_mean_squared_difference_where_the_teacher_is_sure() -> None:
    p, q, sure = torch.rand(2, 3, 3, 3), torch.rand(2, 3, 3, 3), (torch.rand(2, 3, 3, 3) > 0.5).float()
    both = torch.stack([p - q, (1 - p) - (1 - q)]) ** 2
    torch.testing.assert_close(masked_consistency(p, q, sure), (sure * both.sum(0)).sum() / (2 * sure.sum() + 1e-16))
    assert float(masked_consistency(p, q, torch.zeros_like(sure))) == 0.0


@pytest.mark.parametrize(("progress", "ramp"), [(0.0, math.exp(-5)), (0.5, math.exp(-1.25)), (1.0, 1.0)])
def test_only_voxels_below_the_threshold_of_the_moment_count(
    monkeypatch: pytest.MonkeyPatch, progress: float, ramp: float
) -> None:
    method, batch = _method(), noise_batch(SIDE)
    target, uncertainty = torch.rand(2, *SIDE), torch.rand(2, *SIDE)
    monkeypatch.setattr(method, "teachers_opinion", lambda _: (target, uncertainty))
    parts = method.loss(batch, progress).parts
    sure = uncertainty < (0.75 + 0.25 * ramp) * math.log(2)
    errors = (foreground_probability(method.student(batch.unlabeled)) - target) ** 2
    torch.testing.assert_close(parts["consistency"], errors[sure].mean())
    torch.testing.assert_close(parts["sure"], sure.float().mean())


def test_the_student_sees_the_patches_as_they_are_and_predicts() -> None:
    method, batch = _method(), noise_batch(SIDE)
    seen: list[torch.Tensor] = []
    method.student.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method.loss(batch, 0.5)
    assert len(seen) == 1
    assert torch.equal(seen[0], torch.cat([batch.labeled, batch.unlabeled]))
    assert method.predictor == "student"


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.1 * math.exp(-5)), (0.5, 0.1 * math.exp(-1.25)), (1.0, 0.1)])
def test_the_total_is_half_of_cross_entropy_and_dice_plus_the_risen_agreement(progress: float, weight: float) -> None:
    method, batch = _method(), noise_batch(SIDE)
    loss = method.loss(batch, progress)
    labeled = method.student(batch.labeled)
    supervised = 0.5 * (cross_entropy(labeled, batch.labels) + dice_loss(foreground_probability(labeled), batch.labels))
    torch.testing.assert_close(loss.parts["labeled"], supervised)
    assert bool(loss.parts["consistency"] > 0)
    torch.testing.assert_close(loss.total, supervised + weight * loss.parts["consistency"])


def test_only_the_student_gets_a_gradient_and_the_target_none() -> None:
    method = _method()
    method.loss(noise_batch(SIDE), 1.0).parts["consistency"].backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert any(float(p.grad.abs().max()) > 0 for p in method.student.parameters() if p.grad is not None)


def test_the_teacher_re_estimates_its_own_statistics_and_only_its_weights_are_averaged() -> None:
    method = _method(normalization="batch")
    method.loss(noise_batch(SIDE), 0.0)
    mean = method.teacher.encoder[0].normalizations[0].running_mean.clone()
    assert float(mean.abs().max()) > 0
    method.after_step(0.0)
    assert torch.equal(method.teacher.encoder[0].normalizations[0].running_mean, mean)


def test_the_first_average_is_the_student_and_a_late_one_keeps_99_hundredths() -> None:
    method = _method()
    with torch.no_grad():
        method.student.head.weight.add_(1.0)
    method.after_step(0.0)
    assert torch.equal(method.teacher.head.weight, method.student.head.weight)
    method.steps = 500
    before = method.teacher.head.weight.clone()
    with torch.no_grad():
        method.student.head.weight.add_(1.0)
    method.after_step(0.5)
    torch.testing.assert_close(method.teacher.head.weight, 0.99 * before + 0.01 * method.student.head.weight)


def test_from_a_model_that_was_stopped_in_its_pretraining_both_start_from_what_has_learned() -> None:
    """Its teacher is as it was made."""
    earlier, method = _method(), _method()
    with torch.no_grad():
        earlier.student.head.weight.add_(1.0)
    method.warm_start({name: n.state_dict() for name, n in earlier.networks.items()}, "student", {"pretrained": False})
    assert torch.equal(method.teacher.head.weight, earlier.student.head.weight)
    assert torch.equal(method.student.head.weight, earlier.student.head.weight)


def test_after_a_warm_start_the_teachers_average_goes_on() -> None:
    earlier, method = _method(), _method()
    method.warm_start({name: n.state_dict() for name, n in earlier.networks.items()}, "student", earlier.state())
    before = method.teacher.head.weight.clone()
    with torch.no_grad():
        method.student.head.weight.add_(1.0)
    method.after_step(0.0)
    torch.testing.assert_close(method.teacher.head.weight, before + 0.01)
