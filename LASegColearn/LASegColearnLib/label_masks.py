"""Reads the mask of the wanted segment from a label file with one segment or several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.image_files import read_image, three_dimensional


@dataclass(frozen=True)
class _Segment:
    """One segment of a `.seg.nrrd` header (Slicer: vtkMRMLSegmentationStorageNode)."""

    id: str
    name: str
    label_value: int
    layer: int


def read_mask(path: Path, segment: str | None, name: str) -> tuple[sitk.Image, bool]:
    """The label as uint8 0/1 on its own grid, and whether the file is a segmentation of 3D Slicer."""
    image = read_image(path, name, "label")
    layers = _layers(image)
    segments = _segments(image, len(layers), name)
    if segments:
        return three_dimensional(_segment_mask(layers, segments, segment, name), name, "label"), True
    return _label_mask(image, segment, name), False


def _segments(image: sitk.Image, layers: int, name: str) -> list[_Segment]:
    """The segments listed in a `.seg.nrrd` header; none for a plain label map.

    As in Slicer, a segment without a label value has value 1 in its own layer (files before Slicer 4.11).
    """
    header = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if key.startswith("Segment")}
    found = []
    for number in range(len(header)):
        fields = {field: header.get(f"Segment{number}_{field}") for field in ("ID", "Name", "LabelValue", "Layer")}
        if fields["ID"] is None and fields["Name"] is None:
            break
        own_layer = 0 if layers == 1 and fields["LabelValue"] is not None else number
        try:
            value, layer = int(fields["LabelValue"] or 1), int(fields["Layer"] or own_layer)
        except ValueError:
            raise _bad_header(name) from None
        found.append(_Segment(fields["ID"] or "", fields["Name"] or fields["ID"] or "", value, layer))
    return found


def _segment_mask(
    layers: Sequence[sitk.Image], segments: Sequence[_Segment], wanted: str | None, name: str
) -> sitk.Image:
    names = ", ".join(segment.name for segment in segments)
    chosen = segments if wanted is None else _segments_named(segments, wanted)
    if not chosen:
        raise InputError(
            Problem(
                name,
                f"Wanted a segment named {wanted!r}, found {names}.",
                "Name one of these (`lasegcolearn cohort --segment`).",
            )
        )
    if len(chosen) > 1:
        if len({segment.name for segment in chosen}) < len(chosen):
            names = ", ".join(f"{segment.name} (id {segment.id})" for segment in chosen)
        raise InputError(
            Problem(
                name,
                f"Wanted one segment, found {len(chosen)}: {names}.",
                "Say which, by name or id (`lasegcolearn cohort --segment`).",
            )
        )
    if not 0 <= chosen[0].layer < len(layers):
        raise _bad_header(name)
    return layers[chosen[0].layer] == chosen[0].label_value


def _segments_named(segments: Sequence[_Segment], wanted: str) -> Sequence[_Segment]:
    """The segments with exactly this name; else those with this id; else those whose name differs only in case."""
    for same in (
        lambda segment: segment.name == wanted,
        lambda segment: segment.id == wanted,
        lambda segment: segment.name.strip().lower() == wanted.strip().lower(),
    ):
        chosen = [segment for segment in segments if same(segment)]
        if chosen:
            return chosen
    return []


def _bad_header(name: str) -> InputError:
    return InputError(
        Problem(name, "The segmentation's header does not say where its segments are.", "Save it again in 3D Slicer.")
    )


def _layers(image: sitk.Image) -> list[sitk.Image]:
    """The layers for overlapping segments: components of a vector image, or the last axis of a 4D image."""
    if image.GetNumberOfComponentsPerPixel() > 1:
        return [sitk.VectorIndexSelectionCast(image, i) for i in range(image.GetNumberOfComponentsPerPixel())]
    if image.GetDimension() == 4:
        return [image[:, :, :, i] for i in range(image.GetSize()[3])]
    return [image]


def _label_mask(image: sitk.Image, wanted: str | None, name: str) -> sitk.Image:
    image = three_dimensional(image, name, "label")
    values = np.unique(sitk.GetArrayViewFromImage(image))
    odd = [float(value) for value in values if not (np.isfinite(value) and value >= 0 and value == np.floor(value))]
    if odd:
        raise InputError(
            Problem(
                name,
                f"Wanted a label of whole numbers from 0, found {odd[0]:g} in it.",
                "Give the label itself, not a scan or a probability map.",
            )
        )
    foreground = [float(value) for value in values if value != 0]
    listed = ", ".join(f"{value:g}" for value in foreground[:8]) + (", ..." if len(foreground) > 8 else "")
    if wanted is None:
        if len(foreground) > 1:
            raise InputError(
                Problem(
                    name,
                    f"Wanted a label of 0 and one other value, found {len(foreground)} others: {listed}.",
                    "Say which value is the left atrium (`lasegcolearn cohort --segment`), or export it by itself.",
                )
            )
        return sitk.Cast(image != 0, sitk.sitkUInt8)
    try:
        value = float(wanted)
    except ValueError:
        value = math.nan
    if value not in foreground:
        raise InputError(
            Problem(name, f"Wanted the label's value {wanted!r}, found {listed or 'only 0'}.", "Name a value it has.")
        )
    return sitk.Cast(image == value, sitk.sitkUInt8)
