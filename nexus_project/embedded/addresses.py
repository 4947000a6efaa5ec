"""Where the embedded servers of a data directory listen, as the file `embedded.json`.

Settings read this before Django is set up: nothing here may need more than the
standard library.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_NAME = "embedded.json"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of embedded servers; None for a server that is not running."""

    valkey_url: str | None = None
    temporal_address: str | None = None


def recorded(data_dir: Path) -> Addresses:
    """The addresses last recorded in `data_dir`.

    Never raises: without a readable record there are no embedded servers. A record
    may outlive its servers (after a power loss), so an address is a place to try.
    """
    try:
        record = json.loads((data_dir / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Addresses()
    if not isinstance(record, dict):
        return Addresses()
    return Addresses(
        valkey_url=_text_or_none(record.get("valkey_url")),
        temporal_address=_text_or_none(record.get("temporal_address")),
    )


def record(data_dir: Path, addresses: Addresses) -> None:
    """Replace the record of `data_dir` in one step: a reader sees the old or the new one."""
    data_dir.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=data_dir, prefix=f".{FILE_NAME}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(addresses), file)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(data_dir / FILE_NAME)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def forget(data_dir: Path) -> None:
    """Remove the record of `data_dir`, if there is one."""
    (data_dir / FILE_NAME).unlink(missing_ok=True)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
