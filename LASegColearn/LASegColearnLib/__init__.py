"""LASegColearn's engine: learns to segment the left atrium from labeled and unlabeled MR scans together.

The functions behind the command line's verbs. Each is imported at its first use, so that importing this package is
instant and works before PyTorch is installed.

>>> import LASegColearnLib as engine
>>> engine.preset("cpu").patch_size
(64, 64, 48)
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if sys.version_info < (3, 10):  # noqa: UP036 - older versions of Slicer do not check the required version
    # Before any syntax that an older Python cannot parse: Slicer shows this text where it reports the failed import.
    raise ImportError("LASegColearn needs 3D Slicer 5.10 or newer, or Python 3.10 or newer.")

from LASegColearnLib.errors import InputError, Problem, TrainingError, UserError
from LASegColearnLib.version import __version__

if TYPE_CHECKING:
    from LASegColearnLib.cohort import load_cohort, save_cohort
    from LASegColearnLib.cohort_import import cohort_from_folders, import_cohort
    from LASegColearnLib.demo import run_demo
    from LASegColearnLib.evaluation import evaluate, summarize, write_metrics_csv
    from LASegColearnLib.judging import judge
    from LASegColearnLib.phantom import write_phantom_cohort
    from LASegColearnLib.prediction import predict
    from LASegColearnLib.report import write_report
    from LASegColearnLib.settings import Settings, preset
    from LASegColearnLib.training import resume, train

_HOME = {
    "cohort_from_folders": "cohort_import",
    "evaluate": "evaluation",
    "import_cohort": "cohort_import",
    "judge": "judging",
    "load_cohort": "cohort",
    "predict": "prediction",
    "preset": "settings",
    "resume": "training",
    "run_demo": "demo",
    "save_cohort": "cohort",
    "Settings": "settings",
    "summarize": "evaluation",
    "train": "training",
    "write_metrics_csv": "evaluation",
    "write_phantom_cohort": "phantom",
    "write_report": "report",
}

__all__ = [
    "InputError",
    "Problem",
    "Settings",
    "TrainingError",
    "UserError",
    "__version__",
    "cohort_from_folders",
    "evaluate",
    "import_cohort",
    "judge",
    "load_cohort",
    "predict",
    "preset",
    "resume",
    "run_demo",
    "save_cohort",
    "summarize",
    "train",
    "write_metrics_csv",
    "write_phantom_cohort",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
