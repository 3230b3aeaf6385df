"""Slice and 3D views drawn offscreen by Slicer's own displayable managers; curves drawn by VTK's charts."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any


def sliceView(core: Any, volume: Any, name: str, orientation: str, size: tuple[int, int]) -> Any:
    """A slice view that shows a volume and what lies over it; one name a view."""
    import slicer
    import vtk

    scene, application = core.scene, core.logics["application"]
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    if not application.GetSliceLogics():
        application.SetSliceLogics(vtk.vtkCollection())
    window, base, overlay, interactor = _window(size)
    for renderer in (base, overlay):
        renderer.GetActiveCamera().ParallelProjectionOn()
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(application)
    application.GetSliceLogics().AddItem(logic)
    logic.SetMRMLScene(scene)
    node = logic.AddSliceNode(name)
    node.SetOrientation(orientation)
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory
    # The outlines are drawn in a layer of their own: in the image's, a translucent fill comes out over black.
    names = ["vtkMRMLSegmentationsDisplayableManager2D", "vtkMRMLColorLegendDisplayableManager"]
    group = _managers(factory, application, overlay, node, names)
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    logic.ResizeSliceNode(*size)
    logic.FitSliceToBackground()
    logic.SnapSliceOffsetToIJK()
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.SetInputConnection(logic.GetImageDataConnection())
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    actor.GetProperty().SetDisplayLocationToBackground()
    base.AddViewProp(actor)
    return types.SimpleNamespace(**locals())


def threeDView(core: Any, size: tuple[int, int], name: str = "1") -> Any:
    """A 3D view of everything that is visible in the scene; one name a view."""
    import slicer
    import vtk

    scene, application = core.scene, core.logics["application"]
    if not application.GetViewLogics():
        application.SetViewLogics(vtk.vtkCollection())
    window, base, overlay, interactor = _window(size)
    logic = slicer.vtkMRMLViewLogic()
    logic.SetMRMLApplicationLogic(application)
    application.GetViewLogics().AddItem(logic)
    logic.SetMRMLScene(scene)
    names = [
        "vtkMRMLCameraDisplayableManager",
        "vtkMRMLViewDisplayableManager",
        "vtkMRMLSegmentationsDisplayableManager3D",
    ]
    node = logic.AddViewNode(name)
    node.SetBoxVisible(False)
    node.SetAxisLabelsVisible(False)
    group = _managers(slicer.vtkMRMLThreeDViewDisplayableManagerFactory, application, base, node, names)
    base.ResetCamera()
    return types.SimpleNamespace(**locals())


def chartView(chart: Any, size: tuple[int, int]) -> Any:
    """A plot chart node's series, in their colors, as lines of a chart."""
    import vtk

    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(*size)
    view = vtk.vtkContextView()
    view.SetRenderWindow(window)
    drawn = vtk.vtkChartXY()
    view.GetScene().AddItem(drawn)
    drawn.SetTitle(chart.GetTitle())
    drawn.SetShowLegend(True)
    drawn.GetAxis(1).SetTitle(chart.GetXAxisTitle())
    drawn.GetAxis(0).SetTitle(chart.GetYAxisTitle())
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(index)
        line = drawn.AddPlot(vtk.vtkChart.LINE)
        line.SetInputData(series.GetTableNode().GetTable(), series.GetXColumnName(), series.GetYColumnName())
        line.SetColorF(*series.GetColor())
        line.SetWidth(2)
        line.SetLabel(series.GetName())
    return types.SimpleNamespace(**locals())


def savePicture(view: Any, file: Path) -> None:
    import vtk

    view.window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.window)
    grab.ReadFrontBufferOff()
    writer = vtk.vtkPNGWriter()
    writer.SetInputConnection(grab.GetOutputPort())
    writer.SetFileName(str(file))
    writer.Write()


def _window(size: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    import vtk

    base, overlay, window = vtk.vtkRenderer(), vtk.vtkRenderer(), vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.ShowWindowOff()
    window.SetMultiSamples(0)
    window.SetSize(*size)
    window.SetNumberOfLayers(2)
    overlay.SetLayer(1)
    window.AddRenderer(base)
    window.AddRenderer(overlay)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    interactor.Initialize()
    return window, base, overlay, interactor


def _managers(factoryClass: Any, application: Any, renderer: Any, viewNode: Any, names: list[str]) -> Any:
    import slicer

    factory = factoryClass.GetInstance()
    factory.SetMRMLApplicationLogic(application)
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    group.Initialize(factory, renderer)
    group.SetMRMLDisplayableNode(viewNode)
    return group
