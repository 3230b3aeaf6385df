"""The method's equations: what each part of the loss is made of, and what gets a gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from batches import noise_batch
from LASegColearnLib.losses import dice_loss, foreground_probability, mix_loss, pseudo_label
from LASegColearnLib.methods.base import Batch
from LASegColearnLib.methods.colearning import CoLearning
from LASegColearnLib.mixing import mixing_mask
from LASegColearnLib.settings import Settings

SIDE = (32, 16, 16)
# Instance normalization and no dropout: each patch's output is then independent of the others in its pass.
PLAIN = Settings(patch_size=SIDE, filters=2, dropout=0.0, normalization="instance")


def _batch(seed: int = 0, labeled: int = 2, unlabeled: int = 2) -> Batch:
    return noise_batch(SIDE, seed, labeled, unlabeled)


def _method(**changes) -> CoLearning:
    torch.manual_seed(7)
    method = CoLearning(replace(PLAIN, **changes))
    with torch.no_grad():
        # Apart from each other, so that swapping two networks anywhere changes the numbers.
        for number, network in enumerate(method.networks.values()):
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05 * (number + 1))
    return method


def _reference(method: CoLearning, batch: Batch, printed: bool = False, plain: bool = False) -> dict[str, torch.Tensor]:
    """Eqs. 3-17 written out, one forward pass for each input."""
    s1, s2, t = method.student_1, method.student_2, method.teacher
    masks = [mixing_mask(SIDE, method.settings.mix_crop, batch.rng) for _ in range(2)]
    p = foreground_probability
    taught = pseudo_label(t(batch.weakly_augmented if plain else batch.unlabeled))
    mixed_1 = batch.labeled[0:1] * masks[0] + batch.unlabeled[0:1] * (1 - masks[0])
    mixed_2 = batch.unlabeled[1:2] * masks[1] + batch.labeled[1:2] * (1 - masks[1])
    target_1 = batch.labels[0:1] * masks[0] + taught[0:1] * (1 - masks[0])
    if printed:
        target_1 = taught[0:1] * masks[0] + batch.labels[0:1] * (1 - masks[0])
    target_2 = taught[1:2] * masks[1] + batch.labels[1:2] * (1 - masks[1])
    return {
        "labeled_1": dice_loss(p(s1(batch.labeled)), batch.labels),
        "labeled_2": dice_loss(p(s2(batch.labeled)), batch.labels),
        "cps_1": dice_loss(p(s1(batch.unlabeled)), pseudo_label(s2(batch.unlabeled))),
        "cps_2": dice_loss(p(s2(batch.unlabeled)), pseudo_label(s1(batch.unlabeled))),
        "teacher_1": dice_loss(p(s1(batch.unlabeled)), taught),
        "teacher_2": dice_loss(p(s2(batch.unlabeled)), taught),
        "mix_1": mix_loss(p(s1(mixed_1)), target_1),
        "mix_2": mix_loss(p(s2(mixed_2)), target_2),
    }


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("mix_target", ["composed", "printed"])
def test_every_part_of_the_loss_is_its_equation(mix_target: str, plain: bool) -> None:
    method = _method(mix_target=mix_target, plain_for_teacher=plain)
    parts = method.loss(_batch(), progress=0.5).parts
    expected = _reference(method, _batch(), printed=mix_target == "printed", plain=plain)
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)


def test_total_is_equation_18_with_its_weights() -> None:
    loss = _method(unlabeled_weight=0.3, mix_weight=0.7).loss(_batch(), progress=0.5)
    p = loss.parts
    expected = (
        p["labeled_1"]
        + p["labeled_2"]
        + 0.3 * (p["cps_1"] + p["cps_2"] + p["teacher_1"] + p["teacher_2"])
        + 0.7 * (p["mix_1"] + p["mix_2"])
    )
    torch.testing.assert_close(loss.total, expected)


@pytest.mark.parametrize("left_out", ["cross_supervision", "teacher_supervision"])
def test_a_part_that_is_left_out_is_not_in_the_total(left_out: str) -> None:
    loss = _method(**{left_out: False}).loss(_batch(), progress=0.5)
    p = loss.parts
    kept = "teacher" if left_out == "cross_supervision" else "cps"
    expected = p["labeled_1"] + p["labeled_2"] + p[f"{kept}_1"] + p[f"{kept}_2"] + p["mix_1"] + p["mix_2"]
    torch.testing.assert_close(loss.total, expected)


def test_teacher_gets_no_gradient_and_both_students_do() -> None:
    method = _method()
    method.loss(_batch(), progress=0.5).total.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    for student in (method.student_1, method.student_2):
        assert all(p.grad is not None for p in student.parameters())
    assert not any(p is q for p in method.parameters() for q in method.teacher.parameters())


@pytest.mark.parametrize(("part", "other"), [("cps_1", "student_2"), ("cps_2", "student_1")])
def test_pseudo_labels_pass_no_gradient_to_the_student_that_gave_them(part: str, other: str) -> None:
    method = _method()
    method.loss(_batch(), progress=0.5).parts[part].backward()
    gradients = [p.grad for p in method.networks[other].parameters() if p.grad is not None]
    assert all(float(g.abs().max()) == 0.0 for g in gradients)


def test_all_three_networks_start_from_the_same_weights() -> None:
    states = [network.state_dict() for network in CoLearning(PLAIN).networks.values()]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])
        assert torch.equal(value, states[2][name])


def test_teacher_keeps_1_minus_alpha_minus_beta_of_itself_after_the_first_steps() -> None:
    method = _method(alpha=0.004, beta=0.006)
    method.steps = 5000
    before = method.teacher.head.weight.clone()
    method.after_step(0.5)
    expected = 0.99 * before + 0.004 * method.student_1.head.weight + 0.006 * method.student_2.head.weight
    torch.testing.assert_close(method.teacher.head.weight, expected)


@pytest.mark.parametrize(("stage", "rounds", "averaged"), [(0.0, 0, False), (0.5, 0, True), (0.0, 3, True)])
def test_a_teacher_that_labels_no_patches_has_the_students_statistics(
    stage: float, rounds: int, averaged: bool
) -> None:
    """It re-estimates its own while it labels patches: not in the pretraining, and not where it labels scans."""
    changes = {"teacher_statistics": "reestimate", "normalization": "batch", "teacher_rounds": rounds}
    method = _method(pretraining=stage, **changes)
    for student in (method.student_1, method.student_2):
        student.encoder[0].normalizations[0].running_mean.fill_(3.0)
    method.after_step(0.1)
    moved = float(method.teacher.encoder[0].normalizations[0].running_mean.abs().max()) > 0
    assert moved == averaged


def test_first_step_copies_the_students_average_into_the_teacher() -> None:
    method = _method(alpha=0.004, beta=0.006)
    method.after_step(0.0)
    expected = 0.4 * method.student_1.head.weight + 0.6 * method.student_2.head.weight
    torch.testing.assert_close(method.teacher.head.weight, expected)


def test_an_early_teacher_looks_back_over_a_tenth_of_the_steps_so_far() -> None:
    method = _method(alpha=0.005, beta=0.005)
    method.steps = 90
    before = method.teacher.head.weight.clone()
    method.after_step(0.1)
    expected = 0.9 * before + 0.05 * (method.student_1.head.weight + method.student_2.head.weight)
    torch.testing.assert_close(method.teacher.head.weight, expected)


def test_pretraining_uses_labels_alone_and_then_starts_all_three_from_the_teacher() -> None:
    method = CoLearning(replace(PLAIN, pretraining=0.5))
    assert method.batch_sizes(0.0) == (4, 0)
    loss = method.loss(_batch(labeled=4, unlabeled=0), progress=0.1)
    assert list(loss.parts) == ["labeled_1"]
    loss.total.backward()
    assert all(p.grad is None for p in method.student_2.parameters())
    method.after_step(0.1)
    assert method.phase(0.1) == "pretraining"
    method.after_step(0.5)
    assert method.phase(0.5) == "co-learning"
    assert method.batch_sizes(0.5) == (2, 2)
    assert torch.equal(method.student_1.head.weight, method.teacher.head.weight)
    assert torch.equal(method.student_2.head.weight, method.teacher.head.weight)


def test_self_training_learns_from_labels_and_from_the_teachers_labels_of_scans() -> None:
    method = CoLearning(replace(PLAIN, pretraining=0.2, self_training=0.3, teacher_rounds=4))
    seen: list[torch.Tensor] = []
    method.student_1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    assert (method.phase(0.1), method.batch_sizes(0.1)) == ("pretraining", (4, 0))
    method.after_step(0.2)
    assert (method.phase(0.2), method.batch_sizes(0.2)) == ("pretraining", (4, 0))
    assert (method.phase(0.21), method.batch_sizes(0.21)) == ("self-training", (2, 2))
    batch = _batch()
    batch.pseudo_labels = (torch.rand(2, *SIDE) > 0.5).float()
    loss = method.loss(batch, progress=0.3)
    assert list(loss.parts) == ["labeled_1"]
    (images,) = seen
    torch.testing.assert_close(images[:2], batch.labeled)
    before = torch.cat([batch.labeled, batch.unlabeled])
    truth = torch.cat([batch.labels, batch.pseudo_labels])
    targets = truth.clone()
    for place in (2, 3):
        box = (images[place] != before[place])[0]
        assert box.sum() == np.prod(SIDE) // 8
        assert torch.equal(images[place][0][box], before[place - 1][0][box])
        targets[place][box] = truth[place - 1][box]
    expected = dice_loss(foreground_probability(method.student_1(images)), targets)
    torch.testing.assert_close(loss.total, expected)
    method.after_step(0.5)
    assert (method.phase(0.5), method.batch_sizes(0.5)) == ("co-learning", (2, 2))


def test_self_training_without_labels_of_scans_learns_from_the_true_ones_alone() -> None:
    method = CoLearning(replace(PLAIN, pretraining=0.1, self_training=0.3, teacher_rounds=4))
    seen: list[torch.Tensor] = []
    method.student_1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    method.loss(_batch(), progress=0.2)
    assert len(seen[0]) == 2


def test_scans_are_labeled_at_equal_distances_from_the_end_of_the_pretraining_on() -> None:
    method = CoLearning(replace(PLAIN, pretraining=0.25, self_training=0.3, teacher_rounds=3))
    steps = np.arange(101) / 100
    marks = [before for before, after in zip(steps, steps[1:], strict=False) if method.labels_scans(before, after)]
    assert marks == [0.25, 0.5, 0.75]
    assert CoLearning(replace(PLAIN, teacher_rounds=1)).labels_scans(0.0, 0.01)
    assert not CoLearning(PLAIN).labels_scans(0.0, 1.0)


def test_labels_of_whole_scans_replace_the_teachers_opinion_of_a_patch() -> None:
    method = _method()
    batch = _batch()
    batch.pseudo_labels = (torch.rand(2, *SIDE) > 0.5).float()
    asked: list[object] = []
    method.teacher.register_forward_pre_hook(lambda *_: asked.append(True))
    parts = method.loss(batch, progress=0.0).parts
    assert not asked
    found = foreground_probability(method.student_1(batch.unlabeled))
    torch.testing.assert_close(parts["teacher_1"], dice_loss(found, batch.pseudo_labels))


@pytest.mark.parametrize("count", [2, 4])
def test_pretraining_pastes_a_box_of_another_patch_into_half_of_them(count: int) -> None:
    method = CoLearning(replace(PLAIN, pretraining=0.5))
    seen: list[torch.Tensor] = []
    method.student_1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    batch = _batch(labeled=count, unlabeled=0)
    method.loss(batch, progress=0.1)
    (images,) = seen
    half = count // 2
    torch.testing.assert_close(images[:half], batch.labeled[:half])
    for place in range(half, count):
        pasted = images[place] != batch.labeled[place]
        assert pasted.sum() == np.prod(SIDE) // 8, "A box of half of each side."
        assert torch.equal(images[place][pasted], batch.labeled[place - 1][pasted])


@pytest.mark.parametrize(("progress", "expected"), [(0.2, np.exp(-5.0)), (0.4, np.exp(-1.25)), (0.6, 1.0), (0.9, 1.0)])
def test_unlabeled_losses_ramp_up_after_the_pretraining(progress: float, expected: float) -> None:
    method = CoLearning(replace(PLAIN, pretraining=0.2, ramp_up=0.5))
    assert method.ramp(progress) == pytest.approx(expected, rel=1e-5)


def test_in_a_run_that_is_resumed_to_be_longer_unlabeled_losses_go_on_counting() -> None:
    settings = replace(PLAIN, pretraining=0.2, ramp_up=0.5)
    method, resumed = CoLearning(settings), CoLearning(settings)
    assert method.ramp(1.0) == 1.0
    # Of three times the length it is at a third, and further on beyond what it had pretrained.
    resumed.load_state(method.state())
    assert resumed.ramp(0.1) == resumed.ramp(0.33) == 1.0
    early = {name: value for name, value in method.state().items() if name != "furthest"}
    resumed = CoLearning(settings)
    resumed.load_state(early)
    assert resumed.ramp(0.1) < 0.01


@pytest.mark.parametrize("statistics", ["average", "reestimate"])
def test_the_teacher_that_labels_drops_nothing_out(statistics: str) -> None:
    method = _method(dropout=0.5, teacher_statistics=statistics, normalization="batch")
    batch = _batch()
    first = method._pseudo_labels(batch)
    assert 0 < float(first.mean()) < 1
    assert torch.equal(method._pseudo_labels(batch), first)


def test_paper_preset_has_no_ramp() -> None:
    assert CoLearning(PLAIN).ramp(0.0) == 1.0


def test_students_differ_as_the_setting_says() -> None:
    assert CoLearning(replace(PLAIN, student_difference="residual")).student_2.encoder[0].residual
    assert not CoLearning(replace(PLAIN, student_difference="none")).student_2.encoder[0].residual
    dropped = CoLearning(replace(PLAIN, dropout=0.4, student_difference="dropout"))
    assert (dropped.student_1.bottom_dropout.p, dropped.student_2.bottom_dropout.p) == (0.4, 0.2)
    leaky = CoLearning(replace(PLAIN, student_difference="activation")).student_2.encoder[0].activation
    assert isinstance(leaky, torch.nn.LeakyReLU)
