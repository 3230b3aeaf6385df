"""SDCL: where the students differ, what is corrected there, and what is made less sure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from batches import noise_batch
from LASegColearnLib.copy_paste import Mixture, connected_pseudo_labels, copy_paste_mask, mixture_loss, mixtures
from LASegColearnLib.methods.sdcl import StudentDiscrepancy, correction_loss, entropy_loss
from LASegColearnLib.settings import Settings

SIDE = (32, 16, 16)
PLAIN = Settings(patch_size=SIDE, filters=2, dropout=0.0, normalization="instance")


def _method(**changes) -> StudentDiscrepancy:
    torch.manual_seed(3)
    return StudentDiscrepancy(replace(PLAIN, **changes))


@pytest.fixture
def view() -> tuple[torch.Tensor, Mixture, torch.Tensor]:
    torch.manual_seed(1)
    targets = (torch.rand(2, *SIDE) > 0.6).float()
    mixture = Mixture(torch.zeros(2, 1, *SIDE), targets, copy_paste_mask(SIDE, np.random.default_rng(1)))
    return torch.randn(2, 2, *SIDE), mixture, (torch.rand(2, *SIDE) > 0.8).float()


def test_where_the_students_differ_they_are_corrected_half_as_much_towards_pseudo_labels(view) -> None:
    logits, mixture, apart = view
    one_hot = torch.stack([1 - mixture.targets, mixture.targets], dim=1)
    errors = ((torch.softmax(logits, 1) - one_hot) ** 2).mean(1) * torch.where(mixture.true == 1, 1.0, 0.5)
    torch.testing.assert_close(correction_loss(*view), (errors * apart).sum() / apart.sum())


def test_where_the_students_differ_and_this_one_is_wrong_it_is_drawn_to_the_uniform_distribution(view) -> None:
    logits, mixture, apart = view
    wrong = apart * (logits.argmax(1) != mixture.targets.long())
    to_uniform = -0.5 * torch.log_softmax(logits, 1).sum(1) * torch.where(mixture.true == 1, 1.0, 0.5)
    torch.testing.assert_close(entropy_loss(*view), (to_uniform * wrong).sum() / wrong.sum())


def test_students_that_agree_everywhere_add_nothing(view) -> None:
    logits, mixture, apart = view
    assert float(correction_loss(logits, mixture, torch.zeros_like(apart))) == 0.0
    assert float(entropy_loss(logits, mixture, torch.zeros_like(apart))) == 0.0


def test_the_total_is_the_mixtures_half_the_correction_and_a_twentieth_of_the_entropy_for_each_student() -> None:
    method, batch = _method(), noise_batch(SIDE)
    loss = method.loss(batch, 0.5)
    batch.rng = np.random.default_rng(0)
    expected = torch.zeros(())
    for mixture in mixtures(batch, connected_pseudo_labels(method.teacher(batch.unlabeled))):
        outputs = [student(mixture.images) for student in (method.pair.student_1, method.pair.student_2)]
        apart = (outputs[0].argmax(1) != outputs[1].argmax(1)).float()
        assert 0 < float(apart.mean()) < 1
        for logits in outputs:
            expected = expected + mixture_loss(logits, mixture) + 0.5 * correction_loss(logits, mixture, apart)
            expected = expected + 0.05 * entropy_loss(logits, mixture, apart)
    torch.testing.assert_close(loss.total, expected)
    # No part of it rises.
    assert method.loss(noise_batch(SIDE), 0.0).total == method.loss(noise_batch(SIDE), 1.0).total


@pytest.mark.parametrize(("own", "other"), [(1, 2), (2, 1)])
def test_a_students_losses_give_no_gradient_to_the_other_or_the_teacher(own: int, other: int) -> None:
    method = _method()
    parts = method.loss(noise_batch(SIDE), 0.5).parts
    (parts[f"mixed_{own}"] + parts[f"correction_{own}"] + parts[f"entropy_{own}"]).backward()
    students = {1: method.pair.student_1, 2: method.pair.student_2}
    assert all(p.grad is not None for p in students[own].parameters())
    assert all(p.grad is None for p in (*students[other].parameters(), *method.teacher.parameters()))


def test_the_students_are_unlike_from_the_start_and_predict_by_the_mean_of_their_softmaxes() -> None:
    method = _method()
    first, second = method.pair.student_1, method.pair.student_2
    assert (first.encoder[0].residual, second.encoder[0].residual) == (False, True)
    assert not torch.equal(first.head.weight, second.head.weight)
    patch = torch.randn(1, 1, *SIDE)
    mean = (torch.softmax(first(patch), 1) + torch.softmax(second(patch), 1)) / 2
    torch.testing.assert_close(torch.softmax(method.pair(patch), 1), mean)
    assert method.predictor == "students"


def test_the_teacher_follows_the_first_student_alone() -> None:
    method = _method()
    with torch.no_grad():
        method.pair.student_1.head.weight.add_(1.0)
        method.pair.student_2.head.weight.add_(5.0)
    before = method.teacher.head.weight.clone()
    method.after_step(0.5)
    torch.testing.assert_close(method.teacher.head.weight, before + 0.01)


def test_the_teacher_re_estimates_its_own_statistics() -> None:
    method = _method(normalization="batch")
    method.loss(noise_batch(SIDE), 0.5)
    mean = method.teacher.encoder[0].normalizations[0].running_mean.clone()
    assert float(mean.abs().max()) > 0
    method.after_step(0.5)
    assert torch.equal(method.teacher.encoder[0].normalizations[0].running_mean, mean)


def test_in_the_first_stage_both_students_learn_from_labels_alone_and_the_teacher_is_then_the_first() -> None:
    method = _method(pretraining=0.3)
    assert (method.phase(0.0), method.batch_sizes(0.0)) == ("pretraining", (4, 0))
    loss = method.loss(noise_batch(SIDE, labeled=4, unlabeled=0), 0.1)
    assert list(loss.parts) == ["labeled_1", "labeled_2"]
    loss.total.backward()
    assert all(p.grad is not None for p in method.parameters())
    with torch.no_grad():
        method.pair.student_1.head.weight.add_(1.0)
    method.after_step(0.3)
    assert (method.phase(0.3), method.batch_sizes(0.3)) == ("discrepancy", (2, 2))
    assert torch.equal(method.teacher.head.weight, method.pair.student_1.head.weight)


def test_students_and_teacher_go_on_from_a_model_with_one_network() -> None:
    method, earlier = _method(), _method().teacher
    method.warm_start({"network": earlier.state_dict()}, "network", {})
    for network in (method.pair.student_1, method.pair.student_2, method.teacher):
        assert torch.equal(network.head.weight, earlier.head.weight)
