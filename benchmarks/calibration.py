"""How well a model's probabilities and its doubt foretell its errors, on scans that nothing was trained on.

    .venv/bin/python benchmarks/calibration.py --run runs/left_atrium/colearning-8-seed0 --output reliability.png

A voxel that the model gives a probability of 0.8 should be left atrium in 8 of 10 cases; the expected calibration error
is the mean distance from that, weighted by voxels (Guo et al., ICML 2017). Only voxels near the predicted or the true
surface count: far from it all is certain and right, which would flatter any model. And a case's mean uncertainty should
be larger where its Dice is smaller.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy import ndimage, stats

from LASegColearnLib.cohort import Case
from LASegColearnLib.metrics import segmentation_metrics
from LASegColearnLib.predictor import Predictor
from LASegColearnLib.preprocessing import to_array
from LASegColearnLib.scan_files import read_label, read_scan
from measuring import model_and_cases, model_parser

_BINS = 10
_NEAR_MM = 5.0


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("--output", type=Path, help="picture to draw")
    options = parser.parse_args()
    predictor, members = model_and_cases(options)
    bins = np.zeros((_BINS, 3))
    cases = []
    for case in members:
        found, row = _case(predictor, case)
        bins += found
        cases.append(row)
        sys.stdout.write(f"{case.id}  Dice {row[0]:.3f}  uncertainty {row[1]:.3f}  agreement {row[2]:.3f}\n")
    voxels, probability, share = bins[:, 0], bins[:, 1] / bins[:, 0], bins[:, 2] / bins[:, 0]
    sys.stdout.write("\nprobability  left atrium  voxels\n")
    for row in zip(probability, share, voxels, strict=True):
        sys.stdout.write(f"{row[0]:11.3f}  {row[1]:11.3f}  {row[2]:.0f}\n")
    error = float(np.sum(voxels * np.abs(probability - share)) / np.sum(voxels))
    dice, doubt, agreement = np.array(cases).T
    sys.stdout.write(
        f"\nexpected calibration error within {_NEAR_MM:g} mm of the surface: {error:.3f}\n"
        f"rank correlation of Dice with uncertainty {stats.spearmanr(dice, doubt).statistic:+.2f}, "
        f"with the networks' agreement {stats.spearmanr(dice, agreement).statistic:+.2f}, {len(dice)} cases\n"
    )
    if options.output:
        _draw(probability, share, dice, doubt, error, options.output)


def _case(predictor: Predictor, case: Case) -> tuple[np.ndarray, tuple[float, float, float]]:
    """By bin of probability: voxels, sum of probabilities, voxels of the label; and Dice, uncertainty, agreement."""
    scan = read_scan(case.image, case.id)
    assert case.label is not None
    label = to_array(read_label(case.label, case.segment, scan, case.id)[0]) > 0
    prediction = predictor.predict(scan)
    mask = to_array(prediction.mask) > 0
    probability = to_array(prediction.probability)
    either, both = mask | label, mask & label
    spacing = scan.GetSpacing()
    near = ndimage.distance_transform_edt(~either, sampling=spacing) <= _NEAR_MM
    near &= ndimage.distance_transform_edt(both, sampling=spacing) <= _NEAR_MM
    chosen = np.minimum((probability[near] * _BINS).astype(int), _BINS - 1)
    found = np.stack(
        [np.bincount(chosen, weights, _BINS) for weights in (None, probability[near], label[near].astype(float))], 1
    )
    figures = prediction.figures
    dice = segmentation_metrics(mask, label, spacing).dice
    agreement = figures["agreement"]["mean"] if figures["agreement"] else np.nan
    return found, (dice, figures["mean_uncertainty_near_surface"], agreement)


def _draw(
    probability: np.ndarray, share: np.ndarray, dice: np.ndarray, doubt: np.ndarray, error: float, file: Path
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    left.plot([0, 1], [0, 1], color="gray", linewidth=1, linestyle="--", label="as it should be")
    left.plot(probability, share, marker="o", label=f"model, expected error {error:.3f}")
    left.set(xlabel="probability that the model gives", ylabel="share that is left atrium", aspect="equal")
    left.legend()
    right.scatter(doubt, dice)
    right.set(xlabel="mean uncertainty near the surface", ylabel="Dice")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
