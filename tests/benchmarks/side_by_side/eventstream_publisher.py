"""A process that publishes through django-eventstream, apart from the one that serves viewers.

`publishing(channel)` starts it. It has Django's settings of its own: those of `eventstream_site`.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tests.servers import end_with_parent

_DONE: Final = "done\n"


@contextmanager
def publishing(channel: str) -> Iterator[Callable[[str], None]]:
    """Run it until the block ends; a call returns when it has stored and sent the text."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, channel],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def until_done() -> None:
        if stdout.readline() != _DONE:
            raise RuntimeError("django-eventstream's publisher ended")

    def publish(text: str) -> None:
        stdin.write(f"{text}\n")
        stdin.flush()
        until_done()

    try:
        until_done()
        yield publish
    finally:
        process.kill()
        process.wait()


def _publish_lines(channel: str) -> None:
    from django.core.management import call_command

    from tests.benchmarks.side_by_side.eventstream_site import publish

    call_command("migrate", verbosity=0)
    print(_DONE, end="", flush=True)  # noqa: T201
    for line in sys.stdin:
        publish(channel, line.removesuffix("\n"))
        print(_DONE, end="", flush=True)  # noqa: T201


if __name__ == "__main__":
    _publish_lines(sys.argv[1])
