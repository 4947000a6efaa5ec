"""What executions tell the rest of the house."""

from django.dispatch import Signal

events_committed = Signal()
"""Sent after the commit of a change, in the thread that committed.

Arguments: `execution_id` (str) and `events` (tuple of events.CommittedEvent, in
order). An exception in a receiver is logged and never reaches the writer.
"""

writing_begins = Signal()
"""Sent by a process that is about to write executions for long, such as a worker.

Whoever copies events elsewhere looks now for what an earlier process left uncopied when
it died. Arguments: none. Receivers return at once.
"""
