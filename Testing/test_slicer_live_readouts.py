"""Live readouts of a real segmentation that is edited by the Segment Editor's own logic, and their table."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from LASegColearnLib.metrics import segmentation_metrics
from LASegColearnSlicer import live_readouts
from LASegColearnSlicer.live_readouts import LiveReadouts, NetworkReadout, Readouts
from LASegColearnSlicer.segment_voxels import segmentVoxels
from mrml_scene import startSlicerCore
from mrml_strokes import Strokes, scanAndSegment
from timer_loop import TimerLoop

SHAPE, SPACING = (24, 30, 36), (0.8, 1.0, 1.5)
CENTER = (12, 15, 18)


class Bench:
    """A scan, a segment with a brush in hand, readouts of it, and what they told."""

    def __init__(
        self, loop: TimerLoop, shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = SPACING
    ) -> None:
        self.loop = loop
        self.volume, self.segmentation, self.segmentId = scanAndSegment(shape, spacing)
        self.strokes = Strokes(self.segmentation, self.segmentId, self.volume)
        self.readouts = LiveReadouts(loop.makeTimer)
        self.told: list[Readouts] = []
        self.readouts.addListener(self.told.append)

    def watch(self, references: dict[str, np.ndarray]) -> Readouts:
        self.readouts.watch(self.segmentation, self.segmentId, self.volume, references)
        return self.next()

    def next(self) -> Readouts:
        """What is told next."""
        count = len(self.told)
        assert self.loop.run(lambda: len(self.told) > count)
        return self.told[-1]

    def quiet(self, seconds: float = 0.2) -> bool:
        """Whether nothing is told for so long."""
        count = len(self.told)
        return not self.loop.run(lambda: len(self.told) > count, seconds)

    def array(self) -> np.ndarray:
        import slicer

        return slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, self.segmentId, self.volume) > 0


@pytest.fixture
def bench() -> Iterator[Bench]:
    startSlicerCore().scene.Clear(0)
    bench = Bench(TimerLoop())
    yield bench
    bench.readouts.stop()


def ball(radius: float, center=CENTER, shape=SHAPE, spacing=SPACING) -> np.ndarray:
    places = np.ogrid[tuple(slice(side) for side in shape)]
    away = sum(((p - c) * s) ** 2 for p, c, s in zip(places, center, spacing[::-1], strict=True))
    return (away < radius**2).astype(np.uint8)


NETWORKS = {"teacher": ball(8), "student_1": ball(7, (12, 16, 18)), "student_2": ball(9, (11, 15, 19))}


def assertTrue(readouts: Readouts, mask: np.ndarray, references: dict[str, np.ndarray]) -> None:
    """Against the metrics of each pair alone."""
    voxel = np.prod(SPACING) / 1000
    teacher = references["teacher"] > 0
    assert readouts.volumeMl == pytest.approx(mask.sum() * voxel)
    assert readouts.changedMl == pytest.approx((mask ^ teacher).sum() * voxel)
    assert readouts.changedShare == pytest.approx((mask ^ teacher).sum() / teacher.sum())
    assert [network.name for network in readouts.networks] == list(references)
    for network in readouts.networks:
        wanted = segmentation_metrics(mask, references[network.name], SPACING[::-1])
        found = (network.dice, network.jaccard, network.hd95Mm, network.asdMm)
        assert found == pytest.approx((wanted.dice, wanted.jaccard, wanted.hd95, wanted.asd))


def nothingBut(message: str, names: tuple[str, ...] = ("teacher",)) -> Readouts:
    return Readouts(None, None, None, tuple(NetworkReadout(n, None, None, None, None) for n in names), message)


def test_each_stroke_and_undo_are_followed_from_the_first_into_an_empty_segment_on(bench: Bench) -> None:
    empty = bench.watch(NETWORKS)
    assert empty.message == "The segment is empty."
    assert empty.volumeMl == 0
    assert empty.changedShare == 1
    assert empty.networks[0] == NetworkReadout("teacher", 0, 0, None, None)
    bench.strokes.paint(CENTER, 7)
    first = bench.next()
    assertTrue(first, bench.array(), NETWORKS)
    assert first.message == ""
    bench.strokes.paint((12, 15, 24), 4)
    assertTrue(bench.next(), bench.array(), NETWORKS)
    bench.strokes.erase((8, 15, 18), 5)
    assertTrue(bench.next(), bench.array(), NETWORKS)
    bench.strokes.undo()
    bench.next()
    bench.strokes.undo()
    assert bench.next() == first
    assert bench.readouts.current == first


def test_an_array_written_into_the_segment_is_followed(bench: Bench) -> None:
    import slicer

    bench.watch(NETWORKS)
    mask = ball(6, (10, 12, 14))
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, bench.segmentation, bench.segmentId, bench.volume)
    assertTrue(bench.next(), mask > 0, NETWORKS)


def test_without_references_the_volume_alone_is_told(bench: Bench) -> None:
    bench.watch({})
    bench.strokes.paint(CENTER, 6)
    volume = bench.array().sum() * np.prod(SPACING) / 1000
    assert bench.next() == Readouts(pytest.approx(volume), None, None, (), "")


def test_the_other_segments_of_a_shared_labelmap_do_not_count(bench: Bench) -> None:
    segmentation = bench.segmentation.GetSegmentation()
    bench.strokes.paint(CENTER, 6)
    other = segmentation.AddEmptySegment("other", "Other")
    Strokes(bench.segmentation, other, bench.volume).paint((12, 15, 30), 5)
    segmentation.CollapseBinaryLabelmaps(True)
    assert segmentation.GetNumberOfLayers() == 1
    assert segmentation.GetSegment(other).GetLabelValue() == 2
    assertTrue(bench.watch(NETWORKS), bench.array(), NETWORKS)


def test_a_burst_of_strokes_is_told_once_by_its_last_state(bench: Bench) -> None:
    bench.watch(NETWORKS)
    for number in range(6):
        bench.strokes.paint((12, 15, 10 + 3 * number), 4)
    assertTrue(bench.next(), bench.array(), NETWORKS)
    assert bench.quiet()


def test_what_changes_no_voxel_is_not_told(bench: Bench) -> None:
    bench.strokes.paint(CENTER, 7)
    bench.watch(NETWORKS)
    # The export is an event of the segment.
    bench.array()
    bench.segmentation.GetSegmentation().GetSegment(bench.segmentId).SetColor(0.1, 0.2, 0.3)
    assert bench.quiet()
    bench.strokes.paint((12, 15, 24), 4)
    assertTrue(bench.next(), bench.array(), NETWORKS)


def test_the_newest_change_wins_over_one_that_is_still_computed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.watch(NETWORKS)
    go, started = threading.Event(), []
    compare = live_readouts.ReferenceMetrics.compare

    def slow(self: Any, mask: np.ndarray, start: Any) -> Any:
        started.append(threading.current_thread())
        assert go.wait(10)
        return compare(self, mask, start)

    monkeypatch.setattr(live_readouts.ReferenceMetrics, "compare", slow)
    for number in range(3):
        bench.strokes.paint((12, 15, 10 + 6 * number), 4)
        assert bench.quiet(0.15)
    assert len(started) == 1
    go.set()
    assertTrue(bench.next(), bench.array(), NETWORKS)
    assert bench.quiet()
    # The first had begun, the second was never computed.
    assert len(started) == 2
    assert threading.main_thread() not in started
    assert len(set(started)) == 1


def test_another_segment_can_be_watched_instead_and_the_first_is_not_told_any_more(bench: Bench) -> None:
    bench.watch(NETWORKS)
    other = Bench(bench.loop)
    bench.readouts.watch(other.segmentation, other.segmentId, other.volume, {"teacher": ball(5)})
    bench.next()
    bench.strokes.paint(CENTER, 7)
    assert bench.quiet()
    other.strokes.paint(CENTER, 7)
    assertTrue(bench.next(), other.array(), {"teacher": ball(5)})


def test_a_listener_that_was_removed_hears_nothing(bench: Bench) -> None:
    heard: list[Readouts] = []
    bench.readouts.addListener(heard.append)
    bench.watch({})
    bench.readouts.removeListener(heard.append)
    bench.readouts.removeListener(heard.append)
    bench.strokes.paint(CENTER, 6)
    bench.next()
    assert len(heard) == 1


def test_nothing_is_left_after_stop(bench: Bench) -> None:
    import slicer

    events = slicer.vtkSegmentation
    watched = [
        *((bench.segmentation, event) for event in (events.SourceRepresentationModified, events.SegmentModified)),
        *((bench.segmentation, event) for event in (events.SegmentAdded, events.SegmentRemoved)),
        *(
            (node, slicer.vtkMRMLTransformableNode.TransformModifiedEvent)
            for node in (bench.segmentation, bench.volume)
        ),
        *((slicer.mrmlScene, event) for event in (slicer.mrmlScene.NodeRemovedEvent, slicer.mrmlScene.StartCloseEvent)),
    ]
    # Slicer's own logics observe some of them as well.
    before = [subject.HasObserver(event) for subject, event in watched]
    bench.watch(NETWORKS)
    assert all(subject.HasObserver(event) for subject, event in watched)
    assert bench.readouts.isWatching
    bench.strokes.paint(CENTER, 7)
    bench.readouts.stop()
    assert [subject.HasObserver(event) for subject, event in watched] == before
    assert not bench.readouts.isWatching
    assert bench.readouts.current is None
    bench.strokes.paint((12, 15, 24), 4)
    slicer.mrmlScene.RemoveNode(bench.segmentation)
    assert bench.quiet()
    _assertNoThread()
    bench.readouts.stop()


def _assertNoThread() -> None:
    until = time.monotonic() + 5
    while any(thread.name.startswith("readouts") for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_stop_while_it_computes_tells_nothing(bench: Bench) -> None:
    bench.watch(NETWORKS)
    bench.strokes.paint(CENTER, 7)
    assert bench.loop.run(lambda: bench.readouts._job is not None)
    bench.readouts.stop()
    assert bench.quiet()
    _assertNoThread()


def test_a_removed_segment_is_said_and_followed_again_when_it_is_back(bench: Bench) -> None:
    bench.watch({"teacher": NETWORKS["teacher"]})
    bench.strokes.paint(CENTER, 7)
    before = bench.next()
    segmentation = bench.segmentation.GetSegmentation()
    segment = segmentation.GetSegment(bench.segmentId)
    segmentation.RemoveSegment(segment)
    assert bench.next() == nothingBut("Outlines: The segment no longer exists. Choose another segment.")
    segmentation.AddSegment(segment, bench.segmentId)
    assert bench.next() == before


@pytest.mark.parametrize(
    ("removed", "word"), [("segmentation", "Outlines: The segmentation"), ("volume", "Scan: The scan")]
)
def test_a_removed_node_is_said_and_ends_the_watching(bench: Bench, removed: str, word: str) -> None:
    import slicer

    bench.watch({"teacher": NETWORKS["teacher"]})
    slicer.mrmlScene.RemoveNode(getattr(bench, removed))
    assert bench.told[-1] == nothingBut(f"{word} is no longer in the scene. Choose another one.")
    assert not bench.readouts.isWatching
    assert bench.quiet()
    _assertNoThread()


def test_a_closed_scene_is_said_once_and_ends_the_watching(bench: Bench) -> None:
    import slicer

    bench.watch({"teacher": NETWORKS["teacher"]})
    bench.strokes.paint(CENTER, 7)
    count = len(bench.told)
    slicer.mrmlScene.Clear(0)
    assert bench.told[count:] == [nothingBut("The scene was closed, so the figures are no longer updated.")]
    assert not bench.readouts.isWatching
    assert bench.quiet()
    _assertNoThread()


def test_an_emptied_segment_has_no_distances(bench: Bench) -> None:
    bench.strokes.paint(CENTER, 7)
    bench.watch(NETWORKS)
    bench.strokes.erase(CENTER, 9)
    found = bench.next()
    assert found.message == "The segment is empty."
    assert found.volumeMl == 0
    assert all((n.dice, n.jaccard, n.hd95Mm, n.asdMm) == (0, 0, None, None) for n in found.networks)


def test_an_empty_segmentation_of_a_network_is_named(bench: Bench) -> None:
    bench.strokes.paint(CENTER, 7)
    found = bench.watch(
        {"teacher": np.zeros(SHAPE, np.uint8), "student_1": ball(7), "student_2": np.zeros(SHAPE, bool)}
    )
    assert found.message == "These networks found nothing in this scan: teacher, student 2."
    assert found.changedShare is None
    assert found.changedMl == found.volumeMl
    assert found.networks[0] == NetworkReadout("teacher", 0, 0, None, None)
    assert found.networks[1].hd95Mm is not None


@pytest.mark.parametrize("moved", ["segmentation", "volume"])
def test_a_transform_is_said_and_figures_return_when_it_is_gone(bench: Bench, moved: str) -> None:
    import slicer

    bench.strokes.paint(CENTER, 7)
    before = bench.watch({"teacher": NETWORKS["teacher"]})
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node = getattr(bench, moved)
    node.SetAndObserveTransformNodeID(transform.GetID())
    said = bench.next()
    assert said == nothingBut(said.message)
    bench.strokes.paint((12, 15, 24), 4)
    assert bench.quiet()
    bench.strokes.undo()
    assert said.message.startswith(f"{node.GetName()}: It is inside a transform that is not hardened.")
    node.SetAndObserveTransformNodeID(None)
    assert bench.next() == before


def test_another_grid_is_compared_on_the_scans_and_said(bench: Bench) -> None:
    bench.strokes.paint(CENTER, 7)
    # Half a voxel is no rounding.
    bench.volume.SetOrigin(10.4, -20.3, 30.7)
    found = bench.watch(NETWORKS)
    assertTrue(dataclasses.replace(found, message=""), bench.array(), NETWORKS)
    assert found.message == "The segmentation and the scan have different grids. The scan's grid is used."


def test_an_emptied_segment_on_another_grid_is_empty(bench: Bench) -> None:
    bench.strokes.paint(CENTER, 7)
    bench.strokes.erase(CENTER, 12)
    bench.volume.SetOrigin(10.4, -20.3, 30.7)
    assert bench.watch(NETWORKS).message == "The segment is empty."


def test_a_segment_outside_of_the_scan_is_said(bench: Bench) -> None:
    bench.strokes.paint(CENTER, 7)
    for origin in ((200.0, -20.0, 30.0), (200.3, -20.0, 30.0)):
        bench.volume.SetOrigin(*origin)
        said = bench.watch({"teacher": NETWORKS["teacher"]})
        assert said == nothingBut(said.message)
        assert "Most of the segment Left atrium lies outside of the scan Scan." in said.message


def test_a_surface_in_place_of_voxels_is_said(bench: Bench) -> None:
    import slicer

    bench.strokes.paint(CENTER, 7)
    bench.segmentation.CreateClosedSurfaceRepresentation()
    names = slicer.vtkSegmentationConverter
    bench.segmentation.GetSegmentation().SetSourceRepresentationName(
        names.GetSegmentationClosedSurfaceRepresentationName()
    )
    bench.segmentation.RemoveBinaryLabelmapRepresentation()
    assert "is a surface, not voxels" in bench.watch({}).message


def test_what_was_not_chosen_is_said(bench: Bench) -> None:
    for nodes, word in (((None, bench.volume), "No segmentation"), ((bench.segmentation, None), "No volume")):
        bench.readouts.watch(nodes[0], bench.segmentId, nodes[1], {"teacher": NETWORKS["teacher"]})
        said = bench.next()
        assert said == nothingBut(said.message)
        assert word in said.message


def test_a_network_of_another_scan_is_said(bench: Bench) -> None:
    said = bench.watch({"student_1": np.ones((24, 30, 35), np.uint8)})
    cause = "Wanted the scan's 36×30×24 voxels, found 35×30×24. Predict the scan again."
    assert said == nothingBut(f"student 1: {cause}", ("student_1",))


def test_a_failure_in_the_thread_is_said_and_the_next_stroke_tries_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, mask: np.ndarray, start: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(live_readouts.ReferenceMetrics, "compare", fail)
        said = bench.watch({"teacher": NETWORKS["teacher"]})
    assert said == nothingBut("The figures cannot be computed (MemoryError); Slicer's log has the details.")
    bench.strokes.paint(CENTER, 7)
    assertTrue(bench.next(), bench.array(), {"teacher": NETWORKS["teacher"]})


def _grids() -> dict[str, np.ndarray]:
    """From voxels (i, j, k) to RAS, in mm: the segment's own, shifted, finer, turned."""
    own = np.diag([*SPACING, 1.0])
    own[:3, 3] = (10, -20, 30)
    shifted, finer, turned = own.copy(), own @ np.diag([0.6, 0.7, 0.9, 1]), own.copy()
    shifted[:3, 3] += 5 * own[:3, 0] - 3 * own[:3, 2]
    c, s = np.cos(0.3), np.sin(0.3)
    turned[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ own[:3, :3]
    return {"own": own, "shifted": shifted, "finer": finer, "turned": turned}


@pytest.mark.parametrize("name", _grids())
def test_voxels_are_those_that_slicer_exports(bench: Bench, name: str) -> None:
    import slicer

    bench.strokes.paint(CENTER, 7)
    bench.strokes.paint((10, 22, 22), 4)
    bench.volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(_grids()[name]))
    found = segmentVoxels(bench.segmentation, bench.segmentId, bench.volume)
    assert found.sameGrid == (name in ("own", "shifted"))
    assert found.mask.size < np.prod(SHAPE)
    whole = np.zeros(found.shape, bool)
    whole[tuple(slice(low, low + side) for low, side in zip(found.start, found.mask.shape, strict=True))] = found.mask
    assert np.array_equal(whole, bench.array())
    assert slicer.mrmlScene.GetFirstNodeByName("__temp__") is None


@pytest.mark.alone
@pytest.mark.parametrize("holdLock", [False, True], ids=["lock free between events", "lock held between events"])
def test_figures_of_a_whole_atrium_come_soon_and_do_not_hold_up_the_window(holdLock: bool) -> None:
    startSlicerCore().scene.Clear(0)
    shape, spacing = (88, 150, 200), (0.625, 0.625, 0.625)
    bench = Bench(TimerLoop(holdLock), shape, spacing)
    networks = {
        name: ball(20, center, shape, spacing)
        for name, center in (("teacher", (44, 75, 100)), ("student_1", (45, 77, 100)), ("student_2", (42, 75, 103)))
    }
    bench.strokes.paint((44, 75, 100), 20)
    bench.watch(networks)
    bench.loop.turns.clear()
    seconds = []
    for number in range(5):
        bench.strokes.paint((44, 75 + 5 * number, 130), 5)
        start = time.perf_counter()
        bench.next()
        seconds.append(time.perf_counter() - start)
    bench.readouts.stop()
    assert np.median(seconds) < 0.4
    assert np.median(sorted(bench.loop.turns)[-5:]) < 0.06


@pytest.fixture
def table() -> Any:
    from slicer_stand_in.application import startSlicer

    startSlicer()
    import qt

    return qt.QTableWidget()


READOUTS = Readouts(
    71.26,
    0.0423,
    3.07,
    (NetworkReadout("teacher", 0.9786, 0.9581, 1.25, 0.104), NetworkReadout("student_2", 0.0, 0.0, None, None)),
    "",
)


def _cells(table: Any) -> list[list[str]]:
    rows = range(table.rowCount)
    cells = [[table.item(row, column).text() for column in range(table.columnCount)] for row in rows]
    return [[table.verticalHeaderItem(row).text(), *cells[row]] for row in rows]


def test_the_table_has_a_row_for_each_network(table: Any) -> None:
    from LASegColearnSlicer.readouts_table import ReadoutsTable

    shown = ReadoutsTable(table)
    assert [table.horizontalHeaderItem(c).text() for c in range(4)] == ["Dice", "Jaccard", "95HD mm", "ASD mm"]
    assert all(table.horizontalHeaderItem(c).toolTip() for c in range(4))
    assert _cells(table) == []
    shown.show(READOUTS)
    assert _cells(table) == [["Teacher", "0.979", "0.958", "1.2", "0.10"], ["Student 2", "0.000", "0.000", "–", "–"]]
    shown.show(nothingBut("Gone.", ("teacher", "student_1", "student_2")))
    assert _cells(table) == [[name, *"––––"] for name in ("Teacher", "Student 1", "Student 2")]
    shown.show(None)
    assert _cells(table) == []


def test_the_table_is_as_high_as_its_rows_and_cannot_be_edited(table: Any) -> None:
    import qt

    from LASegColearnSlicer.readouts_table import ReadoutsTable

    shown = ReadoutsTable(table)
    empty = table.height
    shown.show(READOUTS)
    assert table.height == empty + 2 * table.rowHeight(0)
    shown.show(None)
    assert table.height == empty
    assert table.editTriggers == qt.QAbstractItemView.NoEditTriggers


def test_the_summary_says_volume_and_change_or_what_is_wrong(table: Any) -> None:
    from LASegColearnSlicer.readouts_table import ReadoutsTable

    shown = ReadoutsTable(table)
    assert shown.summary(READOUTS) == "71.3 mL; 4.2 % of the teacher's volume changed (3.1 mL)"
    assert shown.summary(dataclasses.replace(READOUTS, message="Mind.")).endswith("(3.1 mL). Mind.")
    assert shown.summary(Readouts(71.26, None, None, (), "")) == "71.3 mL"
    assert shown.summary(nothingBut("Gone.")) == "Gone."
    assert shown.summary(None) == ""
