"""Breaking the product in each promise's heart, to see that the promise's check tells.

`python -m tests.prove.mutations [NAME…]` tries the mutants of these names, or all: each on a
copy of the working tree, in which one text is another, by a short proving run or, where that
cannot show it within half a minute, by a test file. Prints what caught each and exits 1 where
one was not caught, or is stale: its text is not to be found exactly once.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.tables import show

ROOT: Final = Path(__file__).resolve().parents[2]
SEED: Final = 7
MINUTES: Final = 0.4
DEADLINE_SECONDS: Final = 400

_BROKEN: Final = re.compile(r"^(P\d) .* BROKEN ", re.MULTILINE)
_FAILED: Final = re.compile(r"^\d+ failed|^=+ .*\d+ failed", re.MULTILINE)


class StaleMutantError(RuntimeError):
    """The text that a mutant replaces is not in its file exactly once: write the mutant anew."""


@dataclass(frozen=True)
class Mutant:
    """One text of the product that is replaced, and the promises that this breaks.

    It is caught when any of `promises` is seen broken; with `test`, when that file fails.
    """

    name: str
    path: str
    text: str
    replacement: str
    promises: tuple[str, ...]
    test: str = ""

    def source(self, root: Path) -> str:
        """The mutated file's text; raises StaleMutantError."""
        source = (root / self.path).read_text()
        count = source.count(self.text)
        if count != 1:
            raise StaleMutantError(
                f"{self.name} is stale: its text is {count} times in {self.path}, and must be "
                "there exactly once"
            )
        return source.replace(self.text, self.replacement)


MUTANTS: Final = (
    Mutant(
        "gap sent over",
        "streaming/tail.py",
        "return event_id.sequence == cursor.sequence + 1 and (",
        "return event_id.sequence > cursor.sequence and (",
        ("P1",),
    ),
    Mutant(
        "event sent again",
        "streaming/execution_stream.py",
        "        await self._send(text)\n        metrics.events_sent.inc()\n",
        "        await self._send(text)\n"
        "        if self._tail.sequence % 50 == 49:\n            await self._send(text)\n",
        ("P1",),
    ),
    Mutant(
        "final snapshot sent twice",
        "streaming/execution_stream.py",
        "        if is_final(text):\n",
        "        if is_final(text):\n            await self._send(text)\n",
        ("P1",),
    ),
    Mutant(
        "sent past what waits",
        "streaming/subscription.py",
        "(self._waits and self._send_now(event))",
        "self._send_now(event)",
        ("P1",),
        "tests/unit/streaming/test_subscription.py",
    ),
    Mutant(
        "heads never compared",
        "streaming/hub.py",
        "            if self._rooms:\n                try:",
        "            if False:\n                try:",
        ("P1", "P5"),
        "tests/unit/streaming/test_hub.py",
    ),
    Mutant(
        "resync without its reason",
        "streaming/execution_stream.py",
        "        text = snapshot.text\n        if reason is not None:\n",
        "        text = snapshot.text\n        if False:\n",
        ("P1", "P5"),
    ),
    Mutant(
        "snapshot's head read before its document",
        "streaming/snapshot.py",
        "    head, is_final, document = snapshot\n",
        "    head, is_final, _ = snapshot\n"
        "    __import__('time').sleep(0.05)\n"
        "    document = read_snapshot(execution_id).document\n",
        ("P2",),
    ),
    Mutant(
        "patch without a changed field",
        "executions/patches.py",
        "if value != before[field]",
        'if value != before[field] and field != "progress"',
        ("P2",),
    ),
    Mutant(
        "message encoded anew for a connection",
        "streaming/execution_stream.py",
        "        await self._send(text)\n        metrics.events_sent.inc()\n",
        "        await self._send(text.replace(',', ', '))\n",
        ("P3",),
    ),
    Mutant(
        "published before the commit",
        "executions/recording.py",
        "        transaction.on_commit(send, robust=True)",
        "        send()",
        ("P3",),
    ),
    Mutant(
        "append script without gap check",
        "streaming/append.lua",
        "  if sequence > last then\n    return {last_id, 1, deleted}\n  end\n"
        "  if not holds(previous) then\n    delete_stream()\n"
        "    return {last_id, 1, deleted}\n  end",
        "  may_begin = true",
        ("P1", "P4"),
    ),
    Mutant(
        "commit without its event row",
        "executions/change.py",
        "        for event_id, message in written\n",
        "        for event_id, message in written\n        if event_id.sequence % 40 != 39\n",
        ("P4",),
    ),
    Mutant(
        "backlog forgotten",
        "streaming/activity_update_publisher.py",
        "            self._backlog[execution_id] = None\n            self._start_repair()",
        "            self._start_repair()",
        ("P4",),
        "tests/unit/test_activity_update_publisher.py",
    ),
    Mutant(
        "no heartbeats",
        "streaming/execution_stream.py",
        "        await self._heartbeats.beat(self._tail.cursor if caught_up else None)",
        "        self._heartbeats._sent_at = asyncio.get_running_loop().time()",
        ("P5",),
    ),
    Mutant(
        "heartbeat that always says caught up",
        "streaming/execution_stream.py",
        "        caught_up = self._view.hears and not self._tail.lacks(self._view.newest)",
        "        caught_up = True",
        ("P5",),
        "tests/unit/streaming/test_execution_stream.py",
    ),
    Mutant(
        "heartbeat that names another event",
        "streaming/execution_stream.py",
        "self._heartbeats.beat(self._tail.cursor if caught_up else None)",
        "self._heartbeats.beat(EventId(1, self._tail.sequence + 1))",
        ("P5",),
    ),
    Mutant(
        "resync with another reason",
        "streaming/start.py",
        '    return SnapshotOfNow("unknown")',
        '    return SnapshotOfNow("trimmed")',
        ("P5",),
    ),
    Mutant(
        "queue without bound",
        "streaming/subscription.py",
        "self._queued_characters > QUEUE_CHARACTERS",
        "False",
        ("P6",),
        "tests/unit/streaming/test_subscription.py",
    ),
    Mutant(
        "server without back-pressure",
        "nexus_project/daphne_server.py",
        "            await protocol.gate.opened()\n",
        "            pass\n",
        ("P6",),
        "tests/integration/test_daphne_backpressure.py",
    ),
    Mutant(
        "announcements not heard",
        "streaming/hub.py",
        "        room = self._rooms.get(channel)\n        if room is None:\n            return\n"
        "        try:\n            execution_id, event_id",
        "        return\n        try:\n            execution_id, event_id",
        ("P6",),
    ),
    Mutant(
        "anybody may view over sockets",
        "streaming/ws/execution_streaming.py",
        "    if refusal is not None:\n",
        "    if False:\n",
        ("P7",),
    ),
    Mutant(
        "anybody may view over REST",
        "executions/access.py",
        "    return _has_permission(user, VIEW_PERMISSION, execution_id)\n",
        "    return True\n",
        ("P7",),
    ),
    Mutant(
        "access not watched",
        "streaming/access/watch.py",
        "                refused = await self._check(looked_at)\n",
        "                refused = {}\n",
        ("P7",),
    ),
    Mutant(
        "missing executions told from forbidden ones",
        "streaming/ws/execution_streaming.py",
        "        return Closing(refusal, refusal.meaning)\n",
        '        return Closing(refusal, f"{refusal.meaning}: {execution_id}")\n',
        ("P7",),
    ),
)


@dataclass(frozen=True)
class Trial:
    """What came of one mutant; `caught_by` is empty where nothing told."""

    mutant: Mutant
    caught_by: str
    seconds: float
    output: str


def try_out(mutant: Mutant) -> Trial:
    """Run the mutant's check on a mutated copy of the tree; raises StaleMutantError."""
    source = mutant.source(ROOT)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nexus-mutant-") as directory:
        copy = Path(directory) / "tree"
        _copy_tree(copy)
        (copy / mutant.path).write_text(source)
        proving = ["--seed", str(SEED), "--minutes", str(MINUTES), "--keep", f"{directory}/records"]
        command = (
            ["pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test]
            if mutant.test
            else ["tests.prove", *proving]
        )
        output = _run(command, copy)
    if mutant.test:
        caught_by = mutant.test if _FAILED.search(output) else ""
    else:
        broken = dict.fromkeys(_BROKEN.findall(output))
        caught_by = " ".join(broken) if broken.keys() & set(mutant.promises) else ""
    return Trial(mutant, caught_by, time.monotonic() - began, output)


def _copy_tree(copy: Path) -> None:
    """What git knows of, or would: as it is in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)


def _run(arguments: Sequence[str], directory: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(directory)}
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            return process.communicate(timeout=DEADLINE_SECONDS)[0]
        except subprocess.TimeoutExpired:
            process.terminate()
            return process.communicate()[0]
        except BaseException:
            # By SIGTERM a run ends what it started.
            process.terminate()
            raise


def main() -> int:
    names = [mutant.name for mutant in MUTANTS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.prove.mutations",
        description=(__doc__ or "").splitlines()[0],
        epilog=f"Mutants: {'; '.join(names)}",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(names):
        parser.error(f"there are no mutants {sorted(unknown)}; there are {names}")
    all_caught = True
    show(f"{'mutant':<45}{'breaks':<10}{'caught by':<55}seconds")
    for mutant in MUTANTS:
        if asked.names and mutant.name not in asked.names:
            continue
        line = f"{mutant.name:<45}{' or '.join(mutant.promises):<10}"
        try:
            trial = try_out(mutant)
        except StaleMutantError as error:
            all_caught = False
            show(f"{line}{error}")
            continue
        show(f"{line}{trial.caught_by or 'NOTHING':<55}{trial.seconds:7.0f}")
        if not trial.caught_by:
            all_caught = False
            show(trial.output)
    return 0 if all_caught else 1


if __name__ == "__main__":
    sys.exit(main())
