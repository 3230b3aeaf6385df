"""Reading scans and labels: formats, grids, `.seg.nrrd`, and the sentence for each file that is refused."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LASegColearnLib.errors import InputError
from LASegColearnLib.scan_files import check_label, content_hash, read_label, read_scan, same_grid
from LASegColearnLib.scan_names import stem

OBLIQUE = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.15, 0.3).GetMatrix()
FORMATS = ["nrrd", "nii", "nii.gz", "mha", "mhd"]


def make_scan(seed: int = 0, size: tuple[int, int, int] = (9, 11, 13)) -> sitk.Image:
    voxels = np.random.default_rng(seed).integers(-200, 2000, size[::-1]).astype(np.int16)
    return placed(voxels)


def placed(voxels: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 1.25, 2.0))
    image.SetOrigin((-12.5, 40.25, 7.0))
    image.SetDirection(OBLIQUE)
    return image


def make_label(value: int = 1) -> sitk.Image:
    voxels = np.zeros((13, 11, 9), np.uint8)
    voxels[3:8, 2:6, 4:7] = value
    return placed(voxels)


def write(image: sitk.Image, path: Path, **header: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.Image(image)
    for key, value in header.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path), useCompression=not path.name.endswith(".nii"))
    return path


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def segment_fields(*segments: tuple[str, str, int | None, int | None]) -> dict[str, str]:
    """Header fields of segments given as id, name, label value and layer."""
    fields = {}
    for number, (segment_id, name, value, layer) in enumerate(segments):
        fields |= {f"Segment{number}_ID": segment_id, f"Segment{number}_Name": name}
        fields |= {} if value is None else {f"Segment{number}_LabelValue": str(value)}
        fields |= {} if layer is None else {f"Segment{number}_Layer": str(layer)}
    return fields


# --- scans ---


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_scan_of_any_format_is_read_as_float_in_its_place(suffix: str, tmp_path: Path) -> None:
    scan = make_scan()
    found = read_scan(write(scan, tmp_path / "vorhöfe λ" / f"my scan.{suffix}"))
    assert found.GetPixelID() == sitk.sitkFloat32
    assert np.array_equal(array(found), array(scan))
    assert same_grid(found, scan)


@pytest.mark.parametrize("pixel", [sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt32, sitk.sitkFloat32, sitk.sitkFloat64])
def test_a_scan_of_any_scalar_type_is_read_with_its_values(pixel: int, tmp_path: Path) -> None:
    values = placed(np.arange(9 * 11 * 2, dtype=np.uint8).reshape(2, 11, 9))
    found = read_scan(write(sitk.Cast(values, pixel), tmp_path / "a.nrrd"))
    assert np.array_equal(array(found), array(values))


def test_a_nifti_scan_with_a_slope_is_not_taken_for_cut_short(tmp_path: Path) -> None:
    path = write(make_scan(), tmp_path / "a.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<ff", content, 112, 0.5, 3.0)
    path.write_bytes(content)
    assert array(read_scan(path)) == pytest.approx(array(make_scan()) * 0.5 + 3.0)


def test_a_4d_file_of_one_volume_is_a_scan(tmp_path: Path) -> None:
    path = write(sitk.JoinSeries([make_scan()]), tmp_path / "a.nrrd")
    assert np.array_equal(array(read_scan(path)), array(make_scan()))


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_scan(path, "case-7")
    (problem,) = caught.value.problems
    assert problem.case == "case-7"
    assert problem.remedy
    assert str(path.parent) not in str(caught.value)
    return problem.cause


def test_a_missing_scan_is_refused_by_name(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.nrrd") == "The scan's file is missing: none.nrrd."


def test_a_file_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    assert refusal(tmp_path / "a.png").startswith("Wanted a scan as one of .seg.nrrd, .nii.gz, .nrrd")


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("share", [0.5, 0.98])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_scan_that_is_cut_short_is_refused(suffix: str, share: float, compress: bool, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(make_scan(), str(path), useCompression=compress)
    data = next(tmp_path.glob("a.*raw")) if suffix == "mhd" else path
    data.write_bytes(data.read_bytes()[: int(data.stat().st_size * share)])
    assert "cut short" in refusal(path)


def test_a_compressed_nifti_scan_whose_stream_ends_properly_but_early_is_refused(tmp_path: Path) -> None:
    import gzip

    path = write(make_scan(), tmp_path / "a.nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-40]))
    assert refusal(path) == "The scan's file is cut short."


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_bytes(b"not an image")
    assert refusal(tmp_path / "a.nrrd") == "The scan's file cannot be read: damaged or cut short."


def test_a_4d_scan_is_refused(tmp_path: Path) -> None:
    path = write(sitk.JoinSeries([make_scan(), make_scan(1)]), tmp_path / "a.nii.gz")
    assert refusal(path) == "Wanted a 3D scan, found 4D."


def test_a_picture_is_refused(tmp_path: Path) -> None:
    path = write(make_scan()[:, :, 3], tmp_path / "a.nrrd")
    assert refusal(path) == "Wanted a 3D scan, found 2D."


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii", ".nii.gz"])
def test_an_ending_in_capitals_is_one(suffix: str, tmp_path: Path) -> None:
    path = write(make_scan(), tmp_path / f"a{suffix}")
    capital = path.rename(tmp_path / f"A{suffix.upper()}")
    assert np.array_equal(array(read_scan(capital)), array(make_scan()))


def test_a_color_scan_is_refused(tmp_path: Path) -> None:
    path = write(sitk.Compose([make_scan(seed) for seed in range(3)]), tmp_path / "a.nrrd")
    assert refusal(path) == "Wanted a scan with one value a voxel, found 3 (colors or several volumes)."


def test_a_complex_scan_is_refused(tmp_path: Path) -> None:
    real = sitk.Cast(make_scan(), sitk.sitkFloat32)
    path = write(sitk.RealAndImaginaryToComplex(real, real), tmp_path / "a.nii")
    assert refusal(path) == "Wanted a scan of real numbers, found complex ones."


def test_a_sheared_scan_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = write(make_scan(), tmp_path / "a.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<hh", content, 252, 0, 1)
    struct.pack_into("<12f", content, 280, 1, 0.3, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    path.write_bytes(content)
    assert refusal(path) == "Wanted a scan with axes at right angles, found a sheared one."


@pytest.mark.parametrize(
    ("name", "straight", "sheared"),
    [
        ("a.nrrd", b"space directions: (1,0,0) (0,1,0)", b"space directions: (1,0,0) (0.1,1,0)"),
        ("a.mha", b"TransformMatrix = 1 0 0 0 1 0", b"TransformMatrix = 1 0 0 0.1 1 0"),
    ],
)
def test_a_sheared_scan_that_the_reader_takes_is_refused(
    name: str, straight: bytes, sheared: bytes, tmp_path: Path
) -> None:
    path = write(sitk.GetImageFromArray(array(make_scan())), tmp_path / name)
    content = path.read_bytes()
    assert straight in content
    path.write_bytes(content.replace(straight, sheared))
    assert refusal(path) == "Wanted a scan with axes at right angles, found a sheared one."


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_scan_with_nan_or_infinity_is_refused(value: float, tmp_path: Path) -> None:
    voxels = array(make_scan()).astype(np.float32)
    voxels[3, 4, 5] = value
    path = write(placed(voxels), tmp_path / "a.nrrd")
    assert refusal(path) == "Wanted a number in every voxel of the scan, found NaN or infinity."


def test_a_constant_scan_is_refused(tmp_path: Path) -> None:
    path = write(placed(np.full((4, 5, 6), 7, np.int16)), tmp_path / "a.nrrd")
    assert refusal(path) == "The scan is constant: every voxel is 7."


@pytest.mark.parametrize(
    ("size", "spacing", "sides"),
    [
        ((9, 11, 13), (500.0, 500.0, 500.0), "4500 x 5500 x 6500 mm with voxels of 500 x 500 x 500 mm"),
        ((9, 11, 13), (1.0, 1.0, 30.0), "9 x 11 x 390 mm with voxels of 1 x 1 x 30 mm"),
        ((3, 3, 90), (1.0, 1.0, 24.0), "3 x 3 x 2160 mm with voxels of 1 x 1 x 24 mm"),
        ((60, 3, 60), (20.0, 1.0, 20.0), "1200 x 3 x 1200 mm with voxels of 20 x 1 x 20 mm"),
        # In meters.
        ((64, 64, 40), (0.005, 0.005, 0.004), "0.32 x 0.32 x 0.16 mm with voxels of 0.005 x 0.005 x 0.004 mm"),
    ],
)
def test_a_scan_larger_or_smaller_than_any_scanner_makes_is_refused(
    size: tuple, spacing: tuple, sides: str, tmp_path: Path
) -> None:
    scan = make_scan(size=size)
    scan.SetSpacing(spacing)
    cause = f"Wanted a scan as scanners make them, found one of {sides}."
    assert refusal(write(scan, tmp_path / "a.nrrd")) == cause


def test_a_scan_of_a_whole_body_is_read(tmp_path: Path) -> None:
    scan = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(380, 50, 50)).astype(np.float32))
    scan.SetSpacing((10.0, 16.0, 5.0))
    assert read_scan(write(scan, tmp_path / "a.nrrd")).GetSize() == (50, 50, 380)


def test_a_folder_is_told_from_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "series.nrrd").mkdir()
    for name in ("series.nrrd", "DICOM"):
        (tmp_path / name).mkdir(exist_ok=True)
        assert refusal(tmp_path / name) == f"Wanted a scan's file, found the folder {name}."


@pytest.mark.parametrize("suffix", ["mhd", "nhdr"])
def test_a_header_without_the_file_of_its_voxels_is_told_from_a_damaged_one(suffix: str, tmp_path: Path) -> None:
    path = write(make_scan(), tmp_path / f"a.{suffix}")
    (voxels,) = (file for file in tmp_path.iterdir() if file != path)
    voxels.unlink()
    assert refusal(path) == f"The file with the scan's voxels is missing beside a.{suffix}: {voxels.name}."


@pytest.mark.parametrize("suffix", ["mhd", "mha", "nhdr", "nrrd"])
def test_a_header_may_not_name_a_file_outside_of_its_folder(suffix: str, tmp_path: Path) -> None:
    path = write(make_scan(), tmp_path / f"a.{'mhd' if suffix.startswith('mh') else 'nhdr'}")
    (voxels,) = (file for file in tmp_path.iterdir() if file != path)
    header = path.read_bytes()
    folder = tmp_path / "folder"
    folder.mkdir()
    copy = folder / f"a.{suffix}"
    told = f"The scan's header, a.{suffix}, names a file with its voxels outside of its folder."
    (folder / "list").mkdir()
    elsewhere = (
        f"../{voxels.name}",
        str(voxels),
        f"below/../../{voxels.name}",
        f"LIST\n../{voxels.name}",
        f"list/../../{voxels.name}",
        f"LIST/../../{voxels.name}",
        f"= = ../{voxels.name}",
    )
    for named in elsewhere:
        copy.write_bytes(header.replace(voxels.name.encode(), named.encode()))
        assert refusal(copy) == told
    copy.write_bytes(
        header.replace(voxels.name.encode(), f"../{voxels.name}".encode()).replace(b"\nElem", b"\n \fElem")
    )
    assert refusal(copy) == told
    (folder / "below").mkdir()
    for named in (f"below/{voxels.name}", str(folder / "below" / voxels.name)):
        copy.write_bytes(header.replace(voxels.name.encode(), named.encode()))
        (folder / "below" / voxels.name).write_bytes(voxels.read_bytes())
        assert np.array_equal(array(read_scan(copy)), array(make_scan()))


@pytest.mark.parametrize("suffix", ["mhd", "mha", "nhdr", "nrrd"])
def test_a_header_too_long_to_be_looked_through_is_refused(suffix: str, tmp_path: Path) -> None:
    path = write(make_scan(), tmp_path / f"a.{suffix}")
    begin, rest = path.read_bytes().split(b"\n", 1)
    line = b"# of no use\n" if suffix.startswith("n") else b"Comment = ElementDataFile = LOCAL\n"
    path.write_bytes(begin + b"\n" + line * (1_100_000 // len(line)) + rest)
    assert refusal(path) == f"The scan's header, a.{suffix}, is longer than 1 MB."


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_a_long_file_with_its_voxels_in_it_is_read(suffix: str, tmp_path: Path) -> None:
    scan = make_scan(size=(90, 90, 90))
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(scan, str(path), useCompression=False)
    assert path.stat().st_size > 1_400_000
    assert np.array_equal(array(read_scan(path)), array(scan))


def test_a_file_outside_of_the_folder_is_found_however_the_header_is_disguised(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for suffix, begin, end in (("mhd", b"NRRD = x\n\n", b"\n"), ("nhdr", b"", b"\r")):
        path = write(make_scan(), tmp_path / f"a.{suffix}")
        (voxels,) = tmp_path.glob("a.*raw*")
        folder.mkdir(exist_ok=True)
        named = path.read_bytes().replace(voxels.name.encode(), b"../" + voxels.name.encode())
        (folder / path.name).write_bytes(begin + named.replace(b"\n", end))
        cause = f"The scan's header, a.{suffix}, names a file with its voxels outside of its folder."
        assert refusal(folder / path.name) == cause
        voxels.unlink()


def test_a_label_is_not_read_as_a_scan(tmp_path: Path) -> None:
    mask = sitk.Cast(make_scan() > 0, sitk.sitkUInt8)
    assert refusal(write(mask * 3, tmp_path / "a.nrrd")) == "The scan has two values only, as a label has."


def test_a_nifti_scan_that_is_not_compressed_as_its_name_says_is_read(tmp_path: Path) -> None:
    path = write(make_scan(), tmp_path / "a.nii").rename(tmp_path / "a.nii.gz")
    assert np.array_equal(array(read_scan(path)), array(make_scan()))
    path.write_bytes(path.read_bytes()[:-40])
    assert refusal(path) == "The scan's file is cut short."


@pytest.mark.parametrize("method", ["is_file", "open"])
def test_a_file_that_may_not_be_read_is_told_from_a_damaged_one(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(make_scan(), tmp_path / "a.nrrd")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, method, refuse)
        with pytest.raises(InputError) as caught:
            read_scan(path, "case-7")
    assert str(caught.value) == (
        "case-7: The file may not be read. Ask for access to it, or copy it to a folder of yours."
    )


# --- labels ---


def test_a_label_of_any_single_value_becomes_0_and_1(tmp_path: Path) -> None:
    for value in (1, 3, 255):
        label, warnings = read_label(write(make_label(value), tmp_path / f"{value}.nii.gz"), None, make_scan())
        assert label.GetPixelID() == sitk.sitkUInt8
        assert np.array_equal(array(label), array(make_label()))
        assert warnings == []


def label_refusal(path: Path, segment: str | None = None, scan: sitk.Image | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_label(path, segment, scan or make_scan(), "case-7")
    (problem,) = caught.value.problems
    assert problem.case == "case-7"
    assert problem.remedy
    return problem.cause


def test_a_label_with_several_values_is_refused_unless_one_is_named(tmp_path: Path) -> None:
    both = make_label() + 2 * sitk.Cast(placed(np.roll(array(make_label()), 5, axis=0)), sitk.sitkUInt8)
    path = write(both, tmp_path / "a.nrrd")
    assert label_refusal(path) == "Wanted a label of 0 and one other value, found 2 others: 1, 2."
    assert np.array_equal(array(read_label(path, "1", make_scan())[0]), array(make_label()))
    assert np.array_equal(array(read_label(path, "2", make_scan())[0]), np.roll(array(make_label()), 5, axis=0))
    assert label_refusal(path, "3") == "Wanted the label's value '3', found 1, 2."
    assert label_refusal(path, "Left atrium") == "Wanted the label's value 'Left atrium', found 1, 2."


@pytest.mark.parametrize(("value", "told"), [(0.4, "0.4"), (-1.0, "-1"), (np.nan, "nan")])
def test_a_label_with_values_that_no_label_has_is_refused(value: float, told: str, tmp_path: Path) -> None:
    voxels = array(make_label()).astype(np.float32) * 0
    voxels[5, 5, 5] = value
    path = write(placed(voxels), tmp_path / "a.nrrd")
    assert label_refusal(path) == f"Wanted a label of whole numbers from 0, found {told} in it."


def test_an_empty_label_is_refused_unless_it_may_be_empty(tmp_path: Path) -> None:
    path = write(make_label(0), tmp_path / "a.nrrd")
    assert label_refusal(path) == "The label is empty."
    label, _ = read_label(path, None, make_scan(), may_be_empty=True)
    assert label.GetSize() == make_scan().GetSize()
    assert not array(label).any()
    with pytest.raises(InputError, match="case-7: The label is empty"):
        check_label(path, None, "case-7")


def test_a_missing_or_damaged_or_4d_label_is_refused(tmp_path: Path) -> None:
    assert label_refusal(tmp_path / "none.nrrd") == "The label's file is missing: none.nrrd."
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\n")
    assert label_refusal(tmp_path / "a.nrrd") == "The label's file cannot be read: damaged or cut short."
    path = write(sitk.JoinSeries([make_label(), make_label()]), tmp_path / "b.nrrd")
    assert label_refusal(path) == "Wanted a 3D label, found 4D."


def test_a_difference_of_1e_8_in_a_direction_is_none(tmp_path: Path) -> None:
    label = make_label()
    label.SetDirection([value + 1e-8 for value in label.GetDirection()])
    label.SetOrigin([value + 1e-6 for value in label.GetOrigin()])
    found, warnings = read_label(write(label, tmp_path / "a.mha"), None, make_scan())
    assert warnings == []
    assert found.GetDirection() == make_scan().GetDirection()
    assert np.array_equal(array(found), array(make_label()))


@pytest.mark.parametrize("repeated", [b"ElementDataFile=LIST\n" * 1000, b"ElementDataFile" * 8000])
def test_what_a_header_repeats_costs_no_more_than_its_length(repeated: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mhd"
    path.write_bytes(b"ObjectType = Image\nNDims = 3\n" + repeated)
    begun = time.process_time()
    with pytest.raises(InputError):
        read_scan(path)
    assert time.process_time() - begun < 1


def test_grids_a_tenth_of_a_voxel_apart_are_two() -> None:
    moved = make_scan()
    moved.SetOrigin([value + 0.07 for value in moved.GetOrigin()])
    assert not same_grid(make_scan(), moved)
    assert not same_grid(make_scan(), make_scan(size=(9, 11, 12)))


def test_a_label_on_another_grid_is_resampled_with_a_warning(tmp_path: Path) -> None:
    fine = sitk.Resample(
        make_label(), [18, 22, 26], sitk.Transform(), sitk.sitkNearestNeighbor,
        make_label().TransformContinuousIndexToPhysicalPoint((-0.25, -0.25, -0.25)), (0.35, 0.625, 1.0), OBLIQUE,
    )  # fmt: skip
    found, warnings = read_label(write(fine, tmp_path / "a.nrrd"), None, make_scan(), "case-7")
    assert same_grid(found, make_scan())
    assert np.array_equal(array(found), array(make_label()))
    assert warnings == ["case-7: the label is on another grid than its scan and was resampled onto it."]


def test_a_label_in_another_orientation_finds_its_place(tmp_path: Path) -> None:
    turned = sitk.Flip(sitk.PermuteAxes(make_label(), (2, 0, 1)), (True, False, True))
    found, warnings = read_label(write(turned, tmp_path / "a.nii.gz"), None, make_scan())
    assert np.array_equal(array(found), array(make_label()))
    assert len(warnings) == 1


def test_a_label_that_does_not_overlap_its_scan_is_refused(tmp_path: Path) -> None:
    far = make_label()
    far.SetOrigin((500, 0, 0))
    cause = "Wanted a label that lies on its scan, found one that does not overlap it."
    assert label_refusal(write(far, tmp_path / "a.nrrd")) == cause


def test_a_label_that_lies_partly_outside_its_scan_is_told(tmp_path: Path) -> None:
    # The label spans x from 4 to 6: a scan that ends at x = 5 loses a third of it.
    found, warnings = read_label(write(make_label(), tmp_path / "a.nrrd"), None, make_scan()[:6], "case-7")
    assert array(found).sum() == array(make_label()).sum() * 2 // 3
    assert warnings[1:] == ["case-7: 33 % of the label lies outside its scan and was left out."]


def test_a_label_that_lies_mostly_outside_its_scan_is_refused(tmp_path: Path) -> None:
    path = write(make_label(), tmp_path / "a.nrrd")
    told = "Wanted a label that lies on its scan, found one of which 67 % lies outside."
    assert label_refusal(path, scan=make_scan()[:5]) == told
    found, warnings = read_label(path, None, make_scan()[:5], may_be_empty=True)
    assert array(found).any()
    assert "67 %" in warnings[1]


# --- .seg.nrrd ---


def layered(layers: list[sitk.Image], path: Path, kind: bytes, **header: str) -> Path:
    """Layers as Slicer writes overlapping segments: the first axis of a 4D NRRD."""
    write(sitk.Compose(layers), path, **header)
    content = path.read_bytes()
    assert b"kinds: vector domain" in content
    path.write_bytes(content.replace(b"kinds: vector domain", b"kinds: " + kind + b" domain"))
    return path


def test_the_only_segment_is_taken_whatever_its_value(tmp_path: Path) -> None:
    # Value 1 is what is left of a segment that the header no longer names.
    both = make_label(7) + sitk.Cast(placed(np.roll(array(make_label()), 5, axis=0)), sitk.sitkUInt8)
    path = write(both, tmp_path / "a.seg.nrrd", **segment_fields(("s", "Vorhof λ", 7, 0)))
    for segment in (None, "Vorhof λ", "vorhof λ ", "s"):
        assert np.array_equal(array(read_label(path, segment, make_scan())[0]), array(make_label()))


def test_one_of_several_segments_is_taken_by_name(tmp_path: Path) -> None:
    both = make_label(2) + sitk.Cast(placed(np.roll(array(make_label()), 5, axis=0)), sitk.sitkUInt8)
    fields = segment_fields(("s0", "Left atrium", 2, 0), ("s1", "Veins", 1, 0))
    path = write(both, tmp_path / "a.seg.nrrd", **fields)
    assert np.array_equal(array(read_label(path, "Left atrium", make_scan())[0]), array(make_label()))
    assert np.array_equal(array(read_label(path, "Veins", make_scan())[0]), np.roll(array(make_label()), 5, axis=0))
    assert label_refusal(path) == "Wanted one segment, found 2: Left atrium, Veins."
    assert label_refusal(path, "LV") == "Wanted a segment named 'LV', found Left atrium, Veins."


def test_segments_of_one_name_are_told_apart_by_id(tmp_path: Path) -> None:
    both = make_label(2) + sitk.Cast(placed(np.roll(array(make_label()), 5, axis=0)), sitk.sitkUInt8)
    path = write(both, tmp_path / "a.seg.nrrd", **segment_fields(("s0", "LA", 2, 0), ("s1", "LA", 1, 0)))
    assert label_refusal(path, "LA") == "Wanted one segment, found 2: LA (id s0), LA (id s1)."
    assert np.array_equal(array(read_label(path, "s0", make_scan())[0]), array(make_label()))


def test_a_name_in_its_own_letters_goes_before_one_in_other_letters(tmp_path: Path) -> None:
    both = make_label(2) + sitk.Cast(placed(np.roll(array(make_label()), 5, axis=0)), sitk.sitkUInt8)
    path = write(both, tmp_path / "a.seg.nrrd", **segment_fields(("s0", "la", 1, 0), ("s1", "LA", 2, 0)))
    assert np.array_equal(array(read_label(path, "LA", make_scan())[0]), array(make_label()))


@pytest.mark.parametrize("kind", [b"list", b"vector"])
def test_overlapping_segments_lie_in_layers(kind: bytes, tmp_path: Path) -> None:
    other = placed(np.roll(array(make_label()), 1, axis=0))
    fields = segment_fields(("s0", "Body", 1, 0), ("s1", "LA", 3, 1))
    path = layered([other, make_label(3)], tmp_path / "a.seg.nrrd", kind, **fields)
    assert np.array_equal(array(read_label(path, "LA", make_scan())[0]), array(make_label()))
    assert np.array_equal(array(read_label(path, "Body", make_scan())[0]), array(other))


def test_layers_may_be_the_last_axis(tmp_path: Path) -> None:
    other = placed(np.roll(array(make_label()), 1, axis=0))
    fields = segment_fields(("s0", "Body", 1, 0), ("s1", "LA", 3, 1))
    path = write(sitk.JoinSeries([other, make_label(3)]), tmp_path / "a.seg.nrrd", **fields)
    assert np.array_equal(array(read_label(path, "LA", make_scan())[0]), array(make_label()))


def test_in_files_of_old_slicers_each_segment_has_value_1_in_its_own_layer(tmp_path: Path) -> None:
    other = placed(np.roll(array(make_label()), 1, axis=0))
    fields = segment_fields(("s0", "Body", None, None), ("s1", "LA", None, None))
    path = layered([other, make_label()], tmp_path / "a.seg.nrrd", b"list", **fields)
    assert np.array_equal(array(read_label(path, "LA", make_scan())[0]), array(make_label()))


@pytest.mark.parametrize("fields", [("s", "LA", 1, 4), ("s", "LA", "many", 0), ("s", "LA", 1, -1)])
def test_a_header_that_points_nowhere_is_refused(fields: tuple, tmp_path: Path) -> None:
    path = write(make_label(), tmp_path / "a.seg.nrrd", **segment_fields(fields))
    assert label_refusal(path) == "The segmentation's header does not say where its segments are."


def test_a_segmentation_saved_at_its_smallest_extent_is_put_in_place_without_a_warning(tmp_path: Path) -> None:
    path = write(make_label(5)[4:7, 2:6, 3:8], tmp_path / "a.seg.nrrd", **segment_fields(("s", "LA", 5, 0)))
    found, warnings = read_label(path, None, make_scan())
    assert np.array_equal(array(found), array(make_label()))
    assert warnings == []


def test_a_segmentation_between_the_voxels_of_its_scan_is_resampled_with_a_warning(tmp_path: Path) -> None:
    moved = make_label()
    moved.SetOrigin(moved.TransformContinuousIndexToPhysicalPoint((0.3, 0, 0)))
    path = write(moved, tmp_path / "a.seg.nrrd", **segment_fields(("s", "LA", 1, 0)))
    found, warnings = read_label(path, None, make_scan(), "case-7")
    assert np.array_equal(array(found), array(make_label()))
    assert warnings == ["case-7: the label is on another grid than its scan and was resampled onto it."]


def test_a_label_map_named_as_a_segmentation_is_a_label_map(tmp_path: Path) -> None:
    label, _ = read_label(write(make_label(4), tmp_path / "a.seg.nrrd"), None, make_scan())
    assert np.array_equal(array(label), array(make_label()))


def test_what_this_engine_writes_is_read_back(tmp_path: Path) -> None:
    from LASegColearnLib.segmentation_files import write_segmentation

    write_segmentation(tmp_path / "a.seg.nrrd", make_label())
    label, warnings = read_label(tmp_path / "a.seg.nrrd", "Left atrium", make_scan())
    assert np.array_equal(array(label), array(make_label()))
    assert warnings == []


# --- identity ---


def test_the_hash_is_of_the_scan_and_not_of_its_file(tmp_path: Path) -> None:
    reference = content_hash(read_scan(write(make_scan(), tmp_path / "a.nrrd")))
    assert content_hash(read_scan(write(make_scan(), tmp_path / "b.nii.gz"))) == reference
    as_float = sitk.Cast(make_scan(), sitk.sitkFloat64)
    assert content_hash(read_scan(write(as_float, tmp_path / "c.mha"))) == reference
    turned = sitk.Flip(sitk.PermuteAxes(make_scan(), (1, 2, 0)), (False, True, False))
    assert content_hash(read_scan(write(turned, tmp_path / "d.nrrd"))) == reference


@pytest.mark.parametrize("side", [0.46875, 0.65625, 0.78125, 1.40625])
def test_the_hash_of_an_oblique_scan_is_the_same_in_nrrd_and_nifti(side: float, tmp_path: Path) -> None:
    scan = make_scan()
    scan.SetSpacing((side, side, 2.0))
    for number in range(8):
        scan.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.05 * number, -0.11, 0.07 * number).GetMatrix())
        hashes = {content_hash(read_scan(write(scan, tmp_path / f"a.{suffix}"))) for suffix in ("nrrd", "nii", "mha")}
        assert len(hashes) == 1


def test_zero_of_either_sign_is_one_zero() -> None:
    voxels = array(make_scan()).astype(np.float32)
    voxels[voxels < 0] = 0
    negative = np.where(voxels == 0, np.float32(-0.0), voxels)
    assert np.signbit(negative).any()
    assert content_hash(placed(voxels)) == content_hash(placed(negative))


def test_the_hash_of_another_scan_is_another() -> None:
    reference = content_hash(make_scan())
    one_voxel = make_scan()
    one_voxel[3, 4, 5] += 1
    assert content_hash(one_voxel) != reference
    other_spacing = make_scan()
    other_spacing.SetSpacing((0.7, 1.25, 2.1))
    assert content_hash(other_spacing) != reference
    assert content_hash(placed(array(make_scan())[:, :, ::-1].copy())) != reference


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.nii.gz", "a"), ("a.SEG.nrrd", "a"), ("a.b.nrrd", "a.b"), ("a.mhd", "a"), ("a.dcm", "a")],
)
def test_the_stem_leaves_out_the_whole_suffix(name: str, expected: str) -> None:
    assert stem(Path(name)) == expected


@pytest.mark.parametrize("places", [(292, 308, 324), (280, 296, 312)], ids=["position", "axis"])
def test_a_nifti_without_a_place_is_refused(places: tuple[int, ...], tmp_path: Path) -> None:
    """ITK takes NaN as it is; brought onto the networks' grid, the scan would be one of zeros."""
    path = write(make_scan(), tmp_path / "scan.nii")
    content = bytearray(path.read_bytes())
    # The last, or the first, of each row of the header's sform.
    for place in places:
        content[place : place + 4] = struct.pack("<f", float("nan"))
    path.write_bytes(content)
    with pytest.raises(InputError, match="scan: Its header gives no valid position or direction"):
        read_scan(path)


def test_a_file_of_another_format_that_is_called_nifti_is_read_by_its_content(tmp_path: Path) -> None:
    scan = sitk.Cast(make_scan(), sitk.sitkFloat32)
    named = write(scan, tmp_path / "scan.tif").rename(tmp_path / "scan.nii")
    assert np.allclose(array(read_scan(named)), array(scan))
