"""What the tests of several files start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from LASegColearnSlicer.session import Session
    from mrml_scene import SlicerCore


@pytest.fixture
def core() -> SlicerCore:
    """Slicer's real MRML with an empty scene."""
    # Imported here: without slicer-core the import skips the test that asks for it, and at the top it would skip all.
    from mrml_scene import startSlicerCore

    core = startSlicerCore()
    core.scene.Clear(0)
    return core


@pytest.fixture
def session(core: SlicerCore) -> Session:
    """A session on the empty scene, with no study open."""
    from LASegColearnSlicer.session import Session

    return Session(core.scene, core.loadVolume, core.loadSegmentation)
