"""What our commands share in talking to people and to make."""

from __future__ import annotations

import contextlib
import os
from argparse import ArgumentParser
from typing import Protocol


class Writable(Protocol):
    def write(self, msg: str) -> object: ...
    def flush(self) -> object: ...


class Teller:
    """Writes a line at once; a reader that has gone does not stop what is being told about."""

    def __init__(self, stream: Writable) -> None:
        self._stream = stream

    def __call__(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(f"{line}\n")
            self._stream.flush()


def add_parent_option(parser: ArgumentParser) -> None:
    """`--until-parent-exits [PID]`, for those who start the command for somebody else."""
    parser.add_argument(
        "--until-parent-exits",
        nargs="?",
        type=int,
        const=os.getppid(),
        metavar="PID",
        help="stop, too, when the process that started this one ends, by whatever cause; "
        "PID tells its number in case it ends before this is reached",
    )
