"""One run: traffic and faults, then quiet until everybody has caught up, then the last look."""

import json
import time
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.tables import show
from tests.prove.faults import Lanes
from tests.prove.plan import Plan
from tests.prove.run_file import (
    HEARTBEAT_SECONDS,
    RunFile,
    begin_together,
    write_run_file,
)
from tests.prove.stage import Process, Stage, StageError, Web

TICK_SECONDS: Final = 0.02
SAMPLE_SECONDS: Final = 1.0
PROGRESS_SECONDS: Final = 5.0
FAULTS_END_SECONDS: Final = 60.0
WRITERS_END_SECONDS: Final = 90.0
LEAST_QUIET_SECONDS: Final = 8.0
"""Longer than two comparisons of heads, after which what is missing is read."""

MOST_QUIET_SECONDS: Final = 75.0
CLIENTS_END_SECONDS: Final = 60.0
READING_TRIES: Final = 20


class Running:
    """Leads a run from its beginning to its end."""

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self._stage = stage
        self._plan = plan
        self._began_at = 0.0
        self._statuses = [_Statuses(process) for process in stage.clients]
        self._commits = _Commits([stage.records / f"{each.name}.jsonl" for each in stage.writers])
        self._next_sample = self._next_progress = 0.0
        self.crashes: list[str] = []

    def run(self) -> None:
        stage = self._stage
        stage.start_webs()
        cookies = stage.create_callers()
        write_run_file(
            stage.run_file,
            RunFile(
                seed=self._plan.seed,
                seconds=self._plan.seconds,
                records=stage.records,
                webs=[web.port for web in stage.webs],
                cookies=cookies,
                topology=self._plan.topology,
                proxy=stage.proxy_port,
            ),
        )
        for writer in stage.writers:
            stage.start_writer(writer)
        stage.start_clients()
        waiting = [process.name for process in (*stage.writers, *stage.clients)]
        self._began_at = begin_together(stage.run_file, waiting)
        lanes = Lanes(stage, self._plan, self._began_at)
        self._next_progress = self._began_at + PROGRESS_SECONDS
        self._traffic(lanes)
        settled_at = time.monotonic()
        self._settle(lanes)
        ended_at = time.monotonic()
        self._end_clients()
        stage.recorder.run(
            seed=self._plan.seed,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            began_at=self._began_at,
            settled_at=settled_at,
            ended_at=ended_at,
            secrets={life.execution_id: life.secret for life in self._plan.lives},
        )
        self._look_at_what_is_held()

    def _traffic(self, lanes: Lanes) -> None:
        """Until no writer writes any more and no fault is at work."""
        ends_at = self._began_at + self._plan.seconds
        while time.monotonic() < ends_at or not lanes.is_idle:
            if time.monotonic() > ends_at + FAULTS_END_SECONDS:
                raise StageError("the faults did not end")
            lanes.go_on()
            self._watch(lanes)
            time.sleep(TICK_SECONDS)
        for writer in self._stage.writers:
            if not writer.wait(max(0.0, ends_at + WRITERS_END_SECONDS - time.monotonic())):
                self.crashes.append(f"{writer.name} did not end by itself: {writer.last_words()}")
                writer.kill()
        # What a killed writer left unpublished is found by the next one that begins.
        sweeping = self._stage.writers[0]
        self._stage.start_writer(sweeping)
        sweeping.wait(WRITERS_END_SECONDS)
        self._note_crashes()

    def _settle(self, lanes: Lanes) -> None:
        """Until every client that stays has caught up, with time limits both ways."""
        began = time.monotonic()
        for process in self._stage.clients:
            assert process.stdin is not None
            process.stdin.write(b"settled\n")
            process.stdin.flush()
        while True:
            quiet = time.monotonic() - began
            if quiet > LEAST_QUIET_SECONDS and all(each.are_settled for each in self._statuses):
                return
            if quiet > MOST_QUIET_SECONDS:
                missing = sum(each["clients"] - each["settled"] for each in self._statuses)
                show(f"  {missing} clients had not caught up after {quiet:.0f} s of quiet")
                return
            self._watch(lanes)
            time.sleep(TICK_SECONDS)

    def _watch(self, lanes: Lanes) -> None:
        """Sample, count, tell, and start again what ended by itself."""
        now = time.monotonic()
        for status in self._statuses:
            status.read()
        if now >= self._next_sample:
            self._next_sample = now + SAMPLE_SECONDS
            self._stage.sample_memory()
            self._note_crashes()
        if now >= self._next_progress:
            self._next_progress = now + PROGRESS_SECONDS
            self._commits.read()
            opened = sum(each["open"] for each in self._statuses)
            asked = sum(each["connections"] for each in self._statuses)
            settled = sum(each["settled"] for each in self._statuses)
            line = (
                f"  {now - self._began_at:4.0f} s  {self._commits.count:6} writes  "
                f"{opened:4} clients connected, {asked} connections  "
                f"{sum(lanes.counts.values()):3} faults"
            )
            show(f"{line}  quiet, {settled} caught up" if settled else f"{line}  {lanes.latest}")

    def _note_crashes(self) -> None:
        in_traffic = time.monotonic() < self._began_at + self._plan.seconds
        for process in (*self._stage.webs, *self._stage.writers, *self._stage.clients):
            status = process.exit_status
            if status is None or (status == 0 and not isinstance(process, Web)):
                continue
            self.crashes.append(
                f"{process.name} ended by itself with {status}: {process.last_words()}"
            )
            process.kill()
            if isinstance(process, Web):
                process.serve()
            elif process in self._stage.clients:
                raise StageError(self.crashes[-1])
            elif in_traffic:
                self._stage.start_writer(process)

    def _end_clients(self) -> None:
        for process in self._stage.clients:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._stage.clients:
            if not process.wait(CLIENTS_END_SECONDS) or process.exit_status:
                raise StageError(f"{process.name} failed:\n{process.last_words()}")

    def _look_at_what_is_held(self) -> None:
        from django.db import Error as DatabaseError
        from django.db import connection

        from executions.models import Event
        from executions.snapshots import read_snapshot
        from streaming.stream import stream_key

        def look(execution_id: str) -> None:
            rows = Event.objects.filter(execution_id=execution_id).order_by("sequence")
            log = [(str(row.event_id), row.message) for row in rows]
            snapshot = read_snapshot(execution_id)
            document = None if snapshot is None else (str(snapshot.event_id), snapshot.document)
            entries: Any = self._stage.valkey.client.xrange(stream_key(execution_id))
            stream = [(entry_id, fields.get("message", "")) for entry_id, fields in entries]
            if log or document or stream:
                self._stage.recorder.held(execution_id, log, document, stream)

        for life in self._plan.lives:
            for left in reversed(range(READING_TRIES)):
                try:
                    look(life.execution_id)
                    break
                except DatabaseError:
                    # A connection of the pool may have been ended by a fault.
                    connection.close()
                    if not left:
                        raise


class _Statuses:
    """What a process of clients says of itself."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._unread = b""
        self._latest: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        return self._latest.get(name, 0)

    @property
    def are_settled(self) -> bool:
        return bool(self["clients"]) and self["settled"] == self["clients"]

    def read(self) -> None:
        """Take what there is, without waiting."""
        assert self._process.stdout is not None
        lines = (self._unread + (self._process.stdout.read() or b"")).split(b"\n")
        self._unread = lines.pop()
        if lines:
            self._latest = json.loads(lines[-1])


class _Commits:
    """Counts what writers have recorded as committed."""

    def __init__(self, paths: list[Path]) -> None:
        self._offsets = dict.fromkeys(paths, 0)
        self.count = 0

    def read(self) -> None:
        for path, offset in self._offsets.items():
            if path.exists():
                with path.open("rb") as file:
                    file.seek(offset)
                    data = file.read()
                self.count += data.count(b'"committed"')
                self._offsets[path] = offset + len(data)
