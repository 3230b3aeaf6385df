"""The settings of a run, the presets that name sets of them, and reading them from text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from LASegColearnLib.errors import InputError, Problem

StudentDifference = Literal["residual", "dropout", "activation", "none"]
Normalization = Literal["batch", "instance", "group"]
# Largest overlap of windows, alike on each axis: 8000 windows then cover each voxel.
MOST_OVERLAP = 0.95
MOST_IN_COMMITTEE = 8
# Beyond this, no training shows atria of such a size.
MOST_ZOOM = 2.0


@dataclass(frozen=True)
class Settings:
    """Everything that decides how a network is trained; saved with each run.

    The defaults are the paper's section III (preset ``paper``), except where the paper is silent.

    Attributes
    ----------
    preset, method, seed
        Name of the preset that the settings started from, name of the method, seed of everything random.
    spacing_mm
        Voxel size (x, y, z) in mm to which scans are resampled for the networks.
    region_mm
        Size (x, y, z) in mm of the box around the scan's center that is used; none: the whole scan.
    patch_size
        Voxels (x, y, z) of a training patch and of a prediction window; multiples of 16.
    labeled_batch, unlabeled_batch
        Patches of each kind in a batch.
    batch_parts
        Number of parts in which a batch is computed, one after another on one device or divided among several GPUs.
        More parts need less memory; batch normalization and Dice then see fewer patches at once.
    axial_rotations, axial_flips
        Rotate training patches by 0, 90, 180 or 270 degrees, and flip them, in the axial plane.
    affine_augmentation
        Share of the training patches that are rotated by up to 15 degrees, scaled, stretched and deformed.
    intensity_augmentation
        Share of the training patches whose brightness, contrast, gamma and bias field are changed, with blur and noise.
    plain_for_teacher
        The teacher sees the unlabeled patches without intensity augmentation. No effect in co-learning with
        ``teacher_rounds``, where the teacher labels whole scans.
    foreground_patches
        Share of the labeled patches that are centered on a voxel of the label (0: the paper's uniform crops).
    filters, normalization, dropout
        The V-Net's number of filters at full resolution, its normalization and its dropout rate.
    student_difference
        How student 2 differs from student 1, with the same tensors: by residual blocks, another dropout rate, a leaky
        activation, or only by the data it sees.
    pretraining
        Share of the training in which a single network learns from copy-pasted labeled patches. Students and teacher
        then start from it.
    self_training
        Share of the training, after the pretraining, in which that single network also learns from its teacher's
        labels of whole unlabeled scans. Needs ``teacher_rounds``.
    teacher_rounds
        How often the teacher labels whole unlabeled scans, at equal intervals from the end of the pretraining on (0: it
        labels each patch when it is drawn, as in the paper). If the length is given in minutes, one labeling takes at
        most a tenth of them, and a long one delays the next.
    alpha, beta
        Weights of the students in the teacher's moving average (eq. 1).
    teacher_statistics
        The teacher's batch-norm statistics: the same average (``average``), or re-estimated in its own forward passes.
        No effect with ``teacher_rounds``, where the teacher sees no patches in training.
    statistics_batches
        Number of batches of patches without augmentation from which all batch-norm statistics are recomputed at the end
        (0: they stay as the training left them).
    unlabeled_weight, mix_weight
        Lambda and mu of eq. 18.
    cross_supervision, teacher_supervision
        Switches for the two parts of eq. 10's loss on unlabeled patches, from the other student (eqs. 4-6) and from the
        teacher (eqs. 7-9). For ablations, as is ``mix_weight`` 0.
    ramp_up
        Share of the co-learning over which lambda and mu rise to their values (0: from the start, as in the paper).
    mix_crop
        Side of INDMIX's box as a share of the patch's side.
    mix_target
        ``composed``: targets composed as their images are; ``printed``: eq. 13 as the paper prints it.
    cross_entropy_weight
        Weight of the cross-entropy that is added to each Dice loss on labels (0: Dice alone, as in the paper).
    optimizer, learning_rate, momentum, weight_decay
        ``sgd`` (the paper's) or ``adamw``.
    schedule, step_iterations, step_factor
        ``step``: multiply the rate by ``step_factor`` every ``step_iterations``; ``cosine``: anneal to 0 over the run.
    anneal_from
        With ``cosine``: share of the run after which the rate begins to fall (0: from the start).
    gradient_clip
        Largest norm of the gradient (0: no clipping).
    iterations, minutes
        Length of the run. With ``minutes``, progress is measured by time, and ``iterations`` only scales
        ``step_iterations`` of the ``step`` schedule.
    committee
        How many models are trained at the same time, each with different random weights and patches. The mean of their
        probabilities predicts. Each model is a process with its share of the processor's threads, or of the GPU; fewer
        are trained if cores or memory are short.
    validations, validation_cases
        How often in a run the networks are validated, and on at most how many cases (0: all).
    holdout
        Share of the labeled cases held out for validation if the cohort has no validation cases and at least five
        labeled ones.
    checkpoints
        How many times the checkpoint is written in the course of a run; it is also written at the end and at a stop.
    precision
        ``auto``: the fastest suitable one of the device; ``float32``; ``bfloat16``; ``float16`` (CUDA only).
    compile
        Compile the networks with `torch.compile`, which needs a C++ compiler and takes some minutes at the start.
    logit_shift
        Amount subtracted from the foreground's logit in validation and prediction, for a model that segments too much.
        With 0.4 the mask is cut at a network probability of 0.6; negative values segment more.
    overlap, mirror
        Overlap of windows in validation, in the labeling of whole scans and in prediction; averaging over mirrored
        copies in prediction (needs ``axial_flips``).
    zoom
        Factor by which a scan is also enlarged and reduced in prediction; the mean of the three predicts, in about four
        times the time of the network that segments (1: the scan as it is).
    """

    preset: str = "paper"
    method: str = "colearning"
    seed: int = 0
    spacing_mm: tuple[float, float, float] = (0.625, 0.625, 0.625)
    region_mm: tuple[float, float, float] | None = None
    patch_size: tuple[int, int, int] = (112, 112, 80)
    labeled_batch: int = 2
    unlabeled_batch: int = 2
    batch_parts: int = 1
    axial_rotations: bool = True
    axial_flips: bool = True
    affine_augmentation: float = 0.0
    intensity_augmentation: float = 0.0
    plain_for_teacher: bool = False
    foreground_patches: float = 0.0
    filters: int = 16
    normalization: Normalization = "batch"
    dropout: float = 0.5
    student_difference: StudentDifference = "dropout"
    pretraining: float = 0.0
    self_training: float = 0.0
    teacher_rounds: int = 0
    alpha: float = 0.005
    beta: float = 0.005
    teacher_statistics: Literal["average", "reestimate"] = "average"
    statistics_batches: int = 0
    unlabeled_weight: float = 1.0
    mix_weight: float = 1.0
    cross_supervision: bool = True
    teacher_supervision: bool = True
    ramp_up: float = 0.0
    mix_crop: float = 0.5
    mix_target: Literal["composed", "printed"] = "composed"
    cross_entropy_weight: float = 0.0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0001
    schedule: Literal["step", "cosine"] = "step"
    step_iterations: int = 2500
    step_factor: float = 0.1
    anneal_from: float = 0.0
    gradient_clip: float = 0.0
    iterations: int = 6000
    minutes: float | None = None
    committee: int = 1
    validations: int = 10
    validation_cases: int = 0
    holdout: float = 0.2
    checkpoints: int = 20
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool = False
    logit_shift: float = 0.0
    overlap: float = 0.25
    mirror: bool = False
    zoom: float = 1.0

    def problems(self) -> list[Problem]:
        """Return what is out of range, each with its remedy."""
        found = []
        for name, value in self.to_dict().items():
            numbers = value if isinstance(value, list) else [value]
            if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
                found.append(self._problem(name, "a finite number"))
        for names, is_in_range, wanted in _RANGES:
            found += [self._problem(name, wanted) for name in names if not is_in_range(getattr(self, name))]
        found += self._combination_problems()
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                found.append(self._problem(name, "one of " + ", ".join(choices)))
        return found

    def _combination_problems(self) -> Iterator[Problem]:
        """Problems of settings that are each in range but do not fit together."""
        if self.batch_parts >= 1 and any(n % self.batch_parts for n in (self.labeled_batch, self.unlabeled_batch)):
            patches = f"{self.labeled_batch} labeled and {self.unlabeled_batch} unlabeled patches"
            yield self._problem("batch_parts", f"a number that divides {patches} evenly")
        if not self.pretraining + self.self_training < 1:
            wanted = f"a share that leaves some co-learning after {self.pretraining:g} of pretraining"
            yield self._problem("self_training", wanted)
        if self.self_training != 0 and self.teacher_rounds < 1:
            wanted = "at least 1 where there is self_training, which learns from the teacher's labels of whole scans"
            yield self._problem("teacher_rounds", wanted)
        if self.axial_rotations and self.patch_size[0] != self.patch_size[1]:
            wanted = "the same x and y side, since patches are rotated by 90 degrees (or axial_rotations=false)"
            yield self._problem("patch_size", wanted)
        if not (self.alpha >= 0 and self.beta >= 0 and 0 < self.alpha + self.beta < 1):
            yield self._problem("alpha", "0 < alpha + beta < 1")
        if self.mirror and not self.axial_flips:
            yield self._problem("mirror", "false where training flips no patches (axial_flips)")

    def _problem(self, name: str, wanted: str) -> Problem:
        return Problem(name, f"Wanted {wanted}, found {getattr(self, name)}.", f"Give {name} such a value.")

    def checked(self) -> Settings:
        """Return these settings, or raise :class:`InputError` naming every one that is out of range."""
        problems = self.problems()
        if problems:
            raise InputError(problems)
        return self

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values for JSON and checkpoints; tuples become lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def changes(self) -> list[str]:
        """Differences from the preset, except method, seed and length, as texts for :meth:`with_text`."""
        own, usual = self.to_dict(), preset(self.preset).to_dict()
        return [
            f"{name}={setting_text(value)}"
            for name, value in own.items()
            if name not in _NOT_CHANGES and value != usual[name]
        ]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """The reverse of :meth:`to_dict`. Raises :class:`InputError` for names that do not exist."""
        unknown = [name for name in values if name not in _TYPES]
        if unknown:
            raise InputError([_unknown_setting(name) for name in unknown])
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        damaged = [name for name, value in given.items() if not _fits(value, _TYPES[name])]
        if damaged:
            raise InputError(
                [
                    Problem(name, f"Wanted a setting as `train` writes it, found {values[name]!r}.", "Correct it.")
                    for name in damaged
                ]
            )
        return cls(**given)

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read a run's ``settings.json``.

        Raises
        ------
        InputError
            If it is missing or damaged, or as :meth:`from_dict` does.
        """
        found = "a damaged file"
        values = None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            found = "no such file"
        except ValueError:
            pass
        if not isinstance(values, dict):
            raise InputError(
                Problem(path.name, f"Wanted the settings of a run, found {found}.", "Restore it from a backup.")
            )
        return cls.from_dict(values)

    def with_text(self, assignments: Iterable[str]) -> Settings:
        """Apply ``name=value`` texts, as given after ``--set``.

        Raises
        ------
        InputError
            Naming every assignment whose name or value cannot be used.
        """
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            name = name.strip()
            if not equals:
                problems.append(Problem("--set", f"Wanted name=value, found {assignment!r}.", "Put = between the two."))
            elif name not in _TYPES:
                problems.append(_unknown_setting(name))
            else:
                try:
                    values[name] = _parse(text.strip(), _TYPES[name])
                except ValueError as error:
                    problems.append(Problem(name, f"Wanted {error}, found {text.strip()!r}.", "Give such a value."))
        if problems:
            raise InputError(problems)
        return replace(self, **values).checked()


# Names of settings, the condition on each single value, and its wording. Some upper bounds are there because a file
# from elsewhere might ask for computations that never end.
_RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        ("spacing_mm",),
        lambda lengths: len(lengths) == 3 and min(lengths) >= 0.1,
        "three lengths from 0.1 mm",
    ),
    (
        ("patch_size",),
        lambda sides: len(sides) == 3 and all(side > 0 and side % 16 == 0 for side in sides),
        "three multiples of 16 (the network halves a patch four times)",
    ),
    (
        ("labeled_batch", "unlabeled_batch", "batch_parts", "filters", "step_iterations", "iterations", "checkpoints"),
        lambda value: value >= 1,
        "at least 1",
    ),
    (
        ("foreground_patches", "affine_augmentation", "intensity_augmentation", "ramp_up"),
        lambda value: 0 <= value <= 1,
        "a share between 0 and 1",
    ),
    (
        ("dropout", "pretraining", "self_training", "anneal_from", "holdout"),
        lambda value: 0 <= value < 1,
        "a share of at least 0 and below 1",
    ),
    (("overlap",), lambda value: 0 <= value <= MOST_OVERLAP, f"a share between 0 and {MOST_OVERLAP:g}"),
    (("filters",), lambda value: value <= 128, "at most 128"),
    (("zoom",), lambda value: 1 <= value <= MOST_ZOOM, f"a factor from 1 to {MOST_ZOOM:g}"),
    (("committee",), lambda value: 1 <= value <= MOST_IN_COMMITTEE, f"a number from 1 to {MOST_IN_COMMITTEE}"),
    (
        ("region_mm",),
        lambda lengths: lengths is None or min(lengths) > 0,
        "three lengths above 0 mm, or none",
    ),
    (("mix_crop",), lambda value: 0 < value <= 1, "a share above 0 and at most 1"),
    (("learning_rate",), lambda value: value > 0, "a rate above 0"),
    (("logit_shift",), lambda value: abs(value) <= 5, "a number from -5 to 5"),
    (("minutes",), lambda value: value is None or value > 0, "a time above 0"),
    (("seed",), lambda value: value < 1 << 63, "a number below 2 to the power of 63"),
    (
        (
            "seed",
            "unlabeled_weight",
            "mix_weight",
            "cross_entropy_weight",
            "weight_decay",
            "momentum",
            "gradient_clip",
            "statistics_batches",
            "teacher_rounds",
            "validations",
            "validation_cases",
        ),
        lambda value: value >= 0,
        "0 or more",
    ),
)
# These have their own command-line options.
_NOT_CHANGES = ("preset", "method", "seed", "iterations", "minutes")


def setting_text(value: Any) -> str:
    """A setting's value as typed after ``--set name=``."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


_TYPES: dict[str, Any] = get_type_hints(Settings)
_CHOICES = {f.name: get_args(_TYPES[f.name]) for f in fields(Settings) if get_origin(_TYPES[f.name]) is Literal}


def _unknown_setting(name: str) -> Problem:
    near = get_close_matches(name, _TYPES, n=1)
    hint = f"Did you mean {near[0]}?" if near else "`lasegcolearn train --settings` lists the settings."
    return Problem(name, "There is no setting of this name.", hint)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a plain value fits the annotated type; an int also counts as a float."""
    origin = get_origin(kind)
    if origin is Literal:
        return value in get_args(kind)
    if origin is tuple:
        kinds = get_args(kind)
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is kind


def _parse(text: str, kind: Any) -> Any:
    """Parse ``text`` as a value of the annotated type; raises ValueError with the wanted type as its text."""
    origin = get_origin(kind)
    if origin is Literal:
        if text not in get_args(kind):
            raise ValueError("one of " + ", ".join(get_args(kind)))
        return text
    if origin is tuple:
        item = get_args(kind)[0]
        parts = [part for part in text.strip("()[]").replace("x", ",").split(",") if part.strip()]
        if len(parts) != 3:
            raise ValueError("three values separated by commas")
        return tuple(_parse(part.strip(), item) for part in parts)
    if origin in (Union, UnionType):
        return None if text.lower() == "none" else _parse(text, get_args(kind)[0])
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError("true or false")
        return text.lower() == "true"
    if kind is str:
        return text
    try:
        return kind(text)
    except ValueError:
        raise ValueError("a whole number" if kind is int else "a number") from None


_CPU = Settings(
    preset="cpu",
    axial_rotations=False,
    axial_flips=False,
    affine_augmentation=0.8,
    intensity_augmentation=0.8,
    plain_for_teacher=True,
    foreground_patches=0.33,
    spacing_mm=(1.25, 1.25, 1.25),
    patch_size=(64, 64, 48),
    filters=8,
    dropout=0.1,
    pretraining=0.3,
    self_training=0.3,
    teacher_rounds=6,
    statistics_batches=20,
    unlabeled_weight=0.5,
    ramp_up=0.2,
    cross_entropy_weight=1.0,
    learning_rate=0.03,
    schedule="cosine",
    anneal_from=0.8,
    minutes=60.0,
    committee=2,
    validation_cases=4,
    zoom=1.25,
)

PRESETS: dict[str, Settings] = {
    "paper": Settings(),
    "cpu": _CPU,
    "demo": replace(
        _CPU,
        preset="demo",
        affine_augmentation=0.3,
        intensity_augmentation=0.5,
        foreground_patches=0.5,
        spacing_mm=(2.5, 2.5, 2.5),
        patch_size=(32, 32, 32),
        pretraining=0.4,
        self_training=0.0,
        teacher_rounds=0,
        anneal_from=0.0,
        minutes=1.75,
        committee=1,
        validations=5,
        validation_cases=0,
        zoom=1.0,
    ),
}


def preset(name: str) -> Settings:
    """Return the preset called ``name``; raise :class:`InputError` if there is none."""
    if name not in PRESETS:
        raise InputError(Problem("--preset", f"Wanted one of {', '.join(PRESETS)}, found {name!r}.", "Choose one."))
    return PRESETS[name]
