"""Shows a gesture in a slice view: the brush's outline, the stroke so far, or the loop being drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from LASegColearnSlicer.teacher_opinion import matrixArray

_LINE_COLOR = (1.0, 1.0, 0.0)
_STROKE_COLOR = (0.0, 0.9, 1.0)
# Opacity of each disc; several overlap.
_STROKE_OPACITY = 0.1
_CORNERS = 48


class SliceFeedback:
    """Two actors of one slice view, in its pixels. The caller adds them to the view and removes them.

    Attributes
    ----------
    actors
        The actors, 2D.
    """

    def __init__(self) -> None:
        import vtk

        self._lines, self._stroke = vtk.vtkPolyData(), vtk.vtkPolyData()
        self._brush = vtk.vtkRegularPolygonSource()
        self._brush.SetNumberOfSides(_CORNERS)
        glyphs = vtk.vtkGlyph2D()
        glyphs.SetInputData(self._stroke)
        glyphs.SetSourceConnection(self._brush.GetOutputPort())
        glyphs.ScalingOff()
        self._glyphs = glyphs
        lineMapper, strokeMapper = vtk.vtkPolyDataMapper2D(), vtk.vtkPolyDataMapper2D()
        lineMapper.SetInputData(self._lines)
        strokeMapper.SetInputConnection(glyphs.GetOutputPort())
        line, stroke = vtk.vtkActor2D(), vtk.vtkActor2D()
        line.SetMapper(lineMapper)
        line.GetProperty().SetColor(*_LINE_COLOR)
        line.GetProperty().SetLineWidth(1.5)
        stroke.SetMapper(strokeMapper)
        stroke.GetProperty().SetColor(*_STROKE_COLOR)
        stroke.GetProperty().SetOpacity(_STROKE_OPACITY)
        self.actors = (stroke, line)
        self.clear()

    def clear(self) -> None:
        """Show nothing."""
        self._setLines([])
        self._setStroke(np.zeros((0, 2)))

    def showBrush(self, sliceNode: Any, place: Sequence[float] | None, radius: float, stroke: np.ndarray) -> None:
        """Show the brush and where it has been.

        Parameters
        ----------
        sliceNode
            Slice node of the view.
        place
            Position of the brush, x and y in pixels; None while the mouse is elsewhere.
        radius
            Radius of the brush, in mm.
        stroke
            Positions of the brush so far, in R, A, S and mm, one per row.
        """
        xyToRas = matrixArray(sliceNode.GetXYToRAS())
        pixels = radius / float(np.linalg.norm(xyToRas[:3, 0]))
        self._brush.SetRadius(pixels)
        angles = np.linspace(0, 2 * np.pi, _CORNERS + 1)
        circle = pixels * np.column_stack([np.cos(angles), np.sin(angles)])
        self._setLines([] if place is None else circle + np.asarray(place, float)[:2])
        toXy = np.linalg.inv(xyToRas)
        self._setStroke(_dense(stroke.reshape(-1, 3) @ toXy[:2, :3].T + toXy[:2, 3], pixels / 2))

    def showLoop(self, loop: Sequence[Sequence[float]]) -> None:
        """Show a loop of points x, y in pixels, closed by a straight line."""
        self._setLines([*loop, loop[0]] if len(loop) > 1 else [])

    def _setLines(self, path: Any) -> None:
        import vtk

        points, cells = _points(path), vtk.vtkCellArray()
        if points.GetNumberOfPoints() > 1:
            cells.InsertNextCell(points.GetNumberOfPoints())
            for index in range(points.GetNumberOfPoints()):
                cells.InsertCellPoint(index)
        self._lines.SetPoints(points)
        self._lines.SetLines(cells)
        self._lines.Modified()

    def _setStroke(self, places: np.ndarray) -> None:
        self._stroke.SetPoints(_points(places))
        self._stroke.Modified()


def _points(path: Any) -> Any:
    import vtk

    points = vtk.vtkPoints()
    for x, y in path:
        points.InsertNextPoint(x, y, 0)
    return points


def _dense(path: np.ndarray, step: float) -> np.ndarray:
    """The path with added points, so that no point is farther than a step from the previous one."""
    if len(path) < 2:
        return path
    parts = [path[:1]]
    for start, end in zip(path[:-1], path[1:], strict=True):
        count = max(int(np.ceil(np.linalg.norm(end - start) / max(step, 0.5))), 1)
        parts.append(start + (end - start) * np.arange(1, count + 1)[:, None] / count)
    return np.concatenate(parts)
