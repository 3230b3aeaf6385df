"""Segments a scan on its own grid, with the networks' uncertainty and agreement."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.data.utils import dense_patch_slices
from torch import nn

from LASegColearnLib.checkpoints import Model
from LASegColearnLib.committee import COMMITTEE
from LASegColearnLib.components import largest_component
from LASegColearnLib.device import Device
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.preprocessing import Grid, prepare_scan, restore_to_scan
from LASegColearnLib.settings import MOST_OVERLAP, MOST_ZOOM
from LASegColearnLib.uncertainty import combined_uncertainty, mean_near_surface, pairwise_agreement
from LASegColearnLib.windows import WINDOWS_AT_ONCE, foreground_at_zooms

MEAN = "mean"


@dataclass(frozen=True)
class Prediction:
    """The segmentation of a scan.

    Attributes
    ----------
    mask
        uint8 0/1 on the scan's grid: the largest connected component.
    probability
        float32 on the scan's grid: the foreground probability that was thresholded.
    uncertainty
        float32 0 to 1 on the scan's grid (see :func:`~LASegColearnLib.uncertainty.combined_uncertainty`); None unless
        requested.
    others
        Masks of the other networks, by name; empty unless the uncertainty was requested.
    figures
        Plain values for JSON: ``volume_ml``; ``mean_uncertainty_near_surface`` and ``agreement`` (mean and pairwise
        Dice of the networks), None if not requested or not defined; ``network``, ``overlap``, ``mirror``, ``zoom``,
        ``spacing_mm``, ``model``; ``note`` (a sentence for the user, or None).
    """

    mask: sitk.Image
    probability: sitk.Image
    uncertainty: sitk.Image | None
    others: dict[str, sitk.Image]
    figures: dict[str, Any]


@dataclass(frozen=True)
class Opinion:
    """A model's opinion of a scan, for deciding which one to annotate.

    Attributes
    ----------
    uncertainty
        Mean uncertainty near the surface of the segmentation, 0 (certain) to 1; None if nothing was found.
    disagreement
        1 - Dice of the students; None for a model with one network.
    descriptor
        float32 (16 filters,): features of the predicting network's coarsest level, averaged over all positions.
    """

    uncertainty: float | None
    disagreement: float | None
    descriptor: np.ndarray


class Predictor:
    """Segments scans with a trained model.

    Parameters
    ----------
    model
        As read by :func:`~LASegColearnLib.checkpoints.load_model`; its networks are moved to ``device``.
    device
        Where to compute, from :func:`~LASegColearnLib.device.choose_device`.
    network
        Name of the network that makes the segmentation, or ``"mean"`` for the mean of all networks' probabilities.
        Default: the one the model predicts with (the teacher).
    overlap
        Share by which windows overlap, from 0 to 0.95. Default: the model's setting.
    mirror
        Average over copies mirrored in the axial plane as in training: 4 copies, or 2 for a model trained without
        rotations, which takes as many times longer. Default: the model's setting.
    zoom
        The network that makes the segmentation averages over the scan as it is, enlarged and reduced by this factor; 1
        for neither. Default: the model's setting.

    Raises
    ------
    InputError
        If there is no such network, or overlap or zoom is out of range.

    Examples
    --------
    >>> predictor = Predictor(load_model(Path("run/checkpoints/last.pt")), device=choose_device())  # doctest: +SKIP
    >>> prediction = predictor.predict(read_scan(Path("scan.nrrd")))  # doctest: +SKIP
    >>> prediction.figures["volume_ml"]  # doctest: +SKIP
    71.3
    """

    def __init__(
        self,
        model: Model,
        *,
        device: Device,
        network: str | None = None,
        overlap: float | None = None,
        mirror: bool | None = None,
        zoom: float | None = None,
    ) -> None:
        self.model = model
        self.device = device
        self.network = model.predictor if network is None else network
        self.overlap = model.settings.overlap if overlap is None else overlap
        self.mirror = model.settings.mirror if mirror is None else mirror
        self.zoom = model.settings.zoom if zoom is None else zoom
        self._check()
        for module in model.networks.values():
            device.place(module).eval()

    def _check(self) -> None:
        problems = []
        known = [*self.model.networks, MEAN]
        if self.network not in known:
            problems.append(
                Problem("--network", f"Wanted one of {', '.join(known)}, found {self.network!r}.", "Choose one.")
            )
        if not 0 <= self.overlap <= MOST_OVERLAP:
            cause = f"Wanted a share between 0 and {MOST_OVERLAP:g}, found {self.overlap}."
            problems.append(Problem("--overlap", cause, "Try 0.25."))
        if not 1 <= self.zoom <= MOST_ZOOM:
            cause = f"Wanted a factor from 1 to {MOST_ZOOM:g}, found {self.zoom}."
            problems.append(Problem("--zoom", cause, "Try 1.25."))
        if self.mirror and not self.model.settings.axial_flips:
            problems.append(
                Problem(
                    "--mirror",
                    "Wanted a model that was trained on mirrored patches, found one that was not.",
                    "Leave it out, or train with --set axial_flips=true.",
                )
            )
        if problems:
            raise InputError(problems)

    def probabilities(self, array: np.ndarray, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Foreground probability of each network for a prepared scan; only the one that segments uses the zoom.

        Parameters
        ----------
        array
            float32 (x, y, z) at the model's spacing, zero mean and unit variance; it may be smaller than a window.
        names
            The networks wanted; all by default.

        Returns
        -------
        dict
            float32 (x, y, z), 0 to 1, by the network's name.
        """
        image = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None, None].to(self.device.device)
        wanted = self.model.networks if names is None else names
        zooms = {name: self.zoom if self.network in (name, MEAN) else 1.0 for name in wanted}
        return {
            name: self._probability(self.model.networks[name], image, zoom).cpu().numpy()
            for name, zoom in zooms.items()
        }

    def _probability(self, network: nn.Module, image: torch.Tensor, zoom: float) -> torch.Tensor:
        """Probability (X, Y, Z) of an image (1, 1, X, Y, Z), averaged over its mirrored copies if requested."""
        # Training flips the first axis; the second is mirrored only by a rotation together with the flip.
        shown = (0, 1) if self.model.settings.axial_rotations else (0,)
        copies = _subsets(shown) if self.mirror else [()]
        total = torch.zeros_like(image[0, 0])
        for axes in copies:
            mirrored = torch.flip(image, [axis + 2 for axis in axes])
            probability = foreground_at_zooms(
                network, mirrored, self.model.settings, self.device, self.overlap, zoom=zoom
            )
            total += torch.flip(probability, list(axes))
        return (total / len(copies)).clamp_(0, 1)

    def predict(self, scan: sitk.Image, *, figures: bool = True, uncertainty: bool = False) -> Prediction:
        """Segment one scan.

        Parameters
        ----------
        scan
            3D, any orientation, spacing and scalar type.
        figures
            Let all networks predict, for the uncertainty near the surface and the agreement. Otherwise only those that
            make the segmentation predict, which takes a third of the time for co-learning.
        uncertainty
            Also return the uncertainty as a volume and the other networks' masks; this needs all networks as well.

        Returns
        -------
        Prediction
            On the scan's own grid. If nothing was found, the mask is empty and a note in the figures says so.
        """
        settings = self.model.settings
        prepared = prepare_scan(scan, settings.spacing_mm, settings.region_mm)
        all_networks = figures or uncertainty or self.network == MEAN
        by_name = self.probabilities(prepared.array, None if all_networks else [self.network])
        chosen = _mean(list(by_name.values())) if self.network == MEAN else by_name[self.network]
        probability = restore_to_scan(chosen, prepared.grid, scan)
        mask = _mask(probability)
        found: dict[str, Any] = {
            "volume_ml": _volume_ml(mask),
            "mean_uncertainty_near_surface": None,
            "agreement": None,
        }
        doubt = combined_uncertainty(chosen, self._students(by_name)) if figures or uncertainty else None
        if figures and doubt is not None:
            found["mean_uncertainty_near_surface"] = mean_near_surface(
                doubt, largest_component(chosen > 0.5), settings.spacing_mm
            )
            # A committee is left out: its members always agree with their own mean.
            found["agreement"] = _agreement({name: one for name, one in by_name.items() if name != COMMITTEE})
        return Prediction(
            mask,
            probability,
            restore_to_scan(doubt, prepared.grid, scan) if uncertainty and doubt is not None else None,
            self._other_masks(by_name, prepared.grid, scan) if uncertainty else {},
            {**found, **self.origin, "note": None if found["volume_ml"] else "Nothing was found in this scan."},
        )

    def opinion(self, scan: sitk.Image) -> Opinion:
        """The model's opinion of a scan (3D, any orientation, spacing and scalar type), at the model's voxel size."""
        settings = self.model.settings
        array = prepare_scan(scan, settings.spacing_mm, settings.region_mm).array
        by_name = self.probabilities(array)
        students = self._students(by_name)
        found = by_name[self.model.predictor]
        doubt = combined_uncertainty(found, students)
        apart = _agreement(dict(enumerate(students)))
        return Opinion(
            mean_near_surface(doubt, largest_component(found > 0.5), settings.spacing_mm),
            None if apart is None else 1.0 - apart["mean"],
            self.descriptor(array),
        )

    def descriptor(self, array: np.ndarray) -> np.ndarray:
        """The descriptor (see :class:`Opinion`) of a prepared scan, float32 (x, y, z).

        After Yang et al., Suggestive annotation, MICCAI 2017: the mean of each channel of the encoder's last features.
        """
        size = self.model.settings.patch_size
        # A scan smaller than the window is padded with zeros, its mean, as in segmentation.
        padding = [(0, max(window - side, 0)) for window, side in zip(size, array.shape, strict=True)]
        image = torch.from_numpy(np.pad(array, padding).astype(np.float32))[None, None].to(self.device.device)
        network: Any = self.model.networks[self.model.predictor]
        total, places = np.zeros(1), 0
        with torch.inference_mode():
            # Window by window: a whole scan at once would need many times the memory.
            for windows in _windows(image, size):
                with self.device.autocast():
                    features = network.bottom_features(windows).float()
                if not features.isfinite().all():
                    # Values beyond the range of float16 may be finite in float32.
                    features = network.bottom_features(windows)
                total = total + features.sum(dim=(0, 2, 3, 4)).cpu().double().numpy()
                places += features[:, 0].numel()
        return (total / places).astype(np.float32)

    def _other_masks(self, by_name: dict[str, np.ndarray], grid: Grid, scan: sitk.Image) -> dict[str, sitk.Image]:
        others = {name: probability for name, probability in by_name.items() if name != self.network}
        return {name: _mask(restore_to_scan(probability, grid, scan)) for name, probability in others.items()}

    def _students(self, by_name: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The networks whose disagreement counts: the students if there are at least two, else all."""
        students = [probability for name, probability in by_name.items() if name != self.model.predictor]
        return students if len(students) > 1 else list(by_name.values())

    @cached_property
    def origin(self) -> dict[str, Any]:
        """How the segmentations are made, as recorded in their figures.

        ``network``, ``spacing_mm``, ``overlap``, ``mirror``, ``zoom`` and ``model``; the latter with method, preset,
        iteration and ``weights``, twelve digits of a hash of the weights.
        """
        settings = self.model.settings
        return {
            "network": self.network,
            "overlap": self.overlap,
            "mirror": self.mirror,
            "zoom": self.zoom,
            "spacing_mm": list(settings.spacing_mm),
            "model": {
                "method": settings.method,
                "preset": settings.preset,
                "iteration": self.model.iteration,
                "weights": _digest(self.model.networks),
            },
        }


def _digest(networks: Mapping[str, nn.Module]) -> str:
    digest = hashlib.sha256()
    for name, network in networks.items():
        digest.update(name.encode())
        for tensor in network.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _windows(image: torch.Tensor, size: Sequence[int]) -> Iterator[torch.Tensor]:
    """Windows that cover an image (1, 1, X, Y, Z), which is at least as large, in batches.

    Only the last window along each axis may overlap the one before.
    """
    pieces = [image[0, 0][place][None, None] for place in dense_patch_slices(image.shape[2:], size, size)]
    for first in range(0, len(pieces), WINDOWS_AT_ONCE):
        yield torch.cat(pieces[first : first + WINDOWS_AT_ONCE])


def _mask(probability: sitk.Image) -> sitk.Image:
    # The component is the same in any axis order, so the array need not be transposed.
    kept = largest_component(sitk.GetArrayViewFromImage(probability) > 0.5)
    mask = sitk.GetImageFromArray(kept.astype(np.uint8))
    mask.CopyInformation(probability)
    return mask


def _volume_ml(mask: sitk.Image) -> float:
    voxels = int(np.count_nonzero(sitk.GetArrayViewFromImage(mask)))
    return voxels * float(np.prod(mask.GetSpacing())) / 1000.0


def _agreement(by_name: Mapping[Any, np.ndarray]) -> dict[str, float] | None:
    pairs = pairwise_agreement(by_name)
    return {"mean": float(np.mean(list(pairs.values()))), **pairs} if pairs else None


def _mean(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    total = probabilities[0].copy()
    for probability in probabilities[1:]:
        total += probability
    return total / np.float32(len(probabilities))


def _subsets(axes: Sequence[int]) -> list[tuple[int, ...]]:
    return [chosen for n in range(len(axes) + 1) for chosen in combinations(axes, n)]
