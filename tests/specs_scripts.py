"""The reference server and the viewer of specs/: where they are, and the viewer as a module."""

import importlib.util
import sys
from pathlib import Path
from typing import Any, Final

SPECS: Final = Path(__file__).parents[1] / "specs/024-execution-visualizer"
DEMO: Final = SPECS / "workflow-stream-demo.py"
VIEWER: Final = SPECS / "workflow-stream-viewer.py"


def _loaded(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("workflow_stream_viewer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


viewer: Final = _loaded(VIEWER)
