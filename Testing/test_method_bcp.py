"""BCP: its two stages, its teacher, and what learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from batches import noise_batch
from LASegColearnLib.copy_paste import connected_pseudo_labels, mixture_loss, mixtures
from LASegColearnLib.methods.bcp import BidirectionalCopyPaste
from LASegColearnLib.settings import Settings

SIDE = (32, 16, 16)
PLAIN = Settings(patch_size=SIDE, filters=2, dropout=0.0, normalization="instance")


def _method(**changes) -> BidirectionalCopyPaste:
    torch.manual_seed(3)
    method = BidirectionalCopyPaste(replace(PLAIN, **changes))
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return method


def test_the_loss_is_that_of_both_mixtures_under_the_teachers_labels_of_whole_patches() -> None:
    method, batch = _method(), noise_batch(SIDE)
    loss = method.loss(batch, 0.5)
    batch.rng = np.random.default_rng(0)
    both = mixtures(batch, connected_pseudo_labels(method.teacher(batch.unlabeled)))
    expected = sum(mixture_loss(method.student(mixture.images), mixture) for mixture in both)
    torch.testing.assert_close(loss.total, expected)


def test_the_weight_of_pseudo_labels_does_not_rise() -> None:
    method = _method()
    totals = [method.loss(noise_batch(SIDE), progress).total for progress in (0.0, 0.5, 1.0)]
    assert totals[0] == totals[1] == totals[2]


def test_one_mask_is_drawn_in_an_iteration() -> None:
    method, batch = _method(), noise_batch(SIDE)
    method.loss(batch, 0.5)
    other = np.random.default_rng(0)
    other.integers(0, 12), other.integers(0, 7), other.integers(0, 7)
    assert batch.rng.integers(1000) == other.integers(1000)


def test_the_student_gets_a_gradient_and_the_teacher_none() -> None:
    method = _method()
    method.loss(noise_batch(SIDE), 0.5).total.backward()
    assert all(p.grad is not None for p in method.student.parameters())
    assert all(p.grad is None for p in method.teacher.parameters())
    assert method.predictor == "student"


def test_the_teacher_keeps_99_hundredths_of_its_weights_and_re_estimates_its_statistics() -> None:
    method = _method(normalization="batch")
    method.loss(noise_batch(SIDE), 0.5)
    mean = method.teacher.encoder[0].normalizations[0].running_mean.clone()
    assert float(mean.abs().max()) > 0
    before = method.teacher.head.weight.clone()
    method.after_step(0.5)
    torch.testing.assert_close(method.teacher.head.weight, 0.99 * before + 0.01 * method.student.head.weight)
    assert torch.equal(method.teacher.encoder[0].normalizations[0].running_mean, mean)


def test_the_first_stage_has_labels_alone_and_gives_its_student_to_both() -> None:
    method = _method(pretraining=0.3)
    assert (method.phase(0.0), method.batch_sizes(0.0)) == ("pretraining", (4, 0))
    assert list(method.networks_in_training()) == ["student"]
    loss = method.loss(noise_batch(SIDE, labeled=4, unlabeled=0), 0.1)
    assert list(loss.parts) == ["labeled"]
    teacher = method.teacher.head.weight.clone()
    method.after_step(0.1)
    assert torch.equal(method.teacher.head.weight, teacher)
    method.after_step(0.3)
    assert (method.phase(0.3), method.batch_sizes(0.3)) == ("copy-paste", (2, 2))
    assert torch.equal(method.teacher.head.weight, method.student.head.weight)
    assert list(method.networks_in_training()) == ["student", "teacher"]


def test_a_warm_start_from_a_model_stopped_in_its_first_stage_takes_its_student_for_both() -> None:
    earlier, method = _method(pretraining=0.3), _method()
    tensors = {name: network.state_dict() for name, network in earlier.networks.items()}
    method.warm_start(tensors, "student", earlier.state())
    assert torch.equal(method.teacher.head.weight, earlier.student.head.weight)
    assert method.phase(0.0) == "copy-paste"
