"""The stand-ins for Slicer's Qt are as strict as they claim: what the real class lacks raises."""

from __future__ import annotations

import pytest

from slicer_stand_in.application import startSlicer


@pytest.fixture(autouse=True)
def _slicer() -> None:
    startSlicer()


def test_properties_are_attributes_and_methods_are_calls() -> None:
    import qt

    button = qt.QPushButton("Train")
    assert button.text == "Train"
    button.text = "Cancel"
    assert button.text == "Cancel"
    with pytest.raises(TypeError, match="not callable"):
        button.text()
    table = qt.QTableWidget()
    table.setRowCount(3)
    assert table.rowCount == 3


def test_what_a_class_lacks_raises() -> None:
    import ctk
    import qt

    button = qt.QPushButton()
    with pytest.raises(AttributeError, match="no property txet"):
        button.txet = "x"
    with pytest.raises(AttributeError, match="no property, signal or method setTxet"):
        button.setTxet("x")
    with pytest.raises(ValueError, match="no signal pressd"):
        button.connect("pressd()", lambda: None)
    with pytest.raises(AttributeError, match="ctk has no ctkNothing"):
        _ = ctk.ctkNothing
    with pytest.raises(TypeError, match="does not take"):
        qt.QSpinBox().value = object()


def test_helpers_of_a_stand_in_cannot_be_reached() -> None:
    import ctk

    button = ctk.ctkDirectoryButton()
    button.directory = "/data"
    assert button.directory == "/data"
    with pytest.raises(AttributeError):
        button._button  # noqa: B018


def test_surplus_arguments_are_dropped_and_a_receiver_can_be_taken_off() -> None:
    import qt

    heard = []
    box = qt.QCheckBox()

    def hear() -> None:
        heard.append(True)

    box.connect("toggled(bool)", hear)
    box.setChecked(True)
    box.disconnect("toggled(bool)", hear)
    box.setChecked(False)
    assert heard == [True]


def test_a_widget_that_is_bound_to_no_parameter_raises() -> None:
    import types

    import qt
    import slicer
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    @parameterNodeWrapper
    class Node:
        share: float = 0.5

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    spin = qt.QDoubleSpinBox()
    spin.setProperty("SlicerParameterName", "shares")
    with pytest.raises(ValueError, match="is no parameter"):
        Node(node).connectGui(types.SimpleNamespace(spin=spin))
    whole = qt.QSpinBox()
    whole.setProperty("SlicerParameterName", "share")
    with pytest.raises(ValueError, match="cannot be bound to a QSpinBox"):
        Node(node).connectGui(types.SimpleNamespace(whole=whole))
    with pytest.raises(TypeError, match="share wants float"):
        Node(node).share = "half"


def test_an_editor_wants_its_node_before_its_scene_and_has_no_more_than_slicers() -> None:
    import slicer

    editor = slicer.qMRMLSegmentEditorWidget()
    with pytest.raises(RuntimeError, match="Set the segment editor node before the scene"):
        editor.setMRMLScene(slicer.mrmlScene)
    with pytest.raises(RuntimeError, match="Set the segment editor node first"):
        editor.setSegmentationNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode"))
    with pytest.raises(AttributeError, match="no property, signal or method setEffect"):
        editor.setEffect("Paint")


def test_an_effect_has_no_more_than_slicers() -> None:
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    with pytest.raises(AttributeError, match="no property titel"):
        effect.titel = "x"
    with pytest.raises(AttributeError, match="appendPolyMask"):
        # Only label effects have it.
        effect.appendPolyMask()
