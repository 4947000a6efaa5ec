"""What executions tell the rest of the house."""

from django.dispatch import Signal

events_committed = Signal()
"""Sent after the commit of a change, in the thread that committed.

Arguments: `execution_id` (str), `events` (tuple of events.CommittedEvent, in order) and
`previous` (the EventId before them; None before the first of all). An exception in a
receiver is logged and never reaches the writer.
"""

writing_begins = Signal()
"""Sent by a process that is about to write executions for long, such as a worker.

Whoever copies events elsewhere looks now for what an earlier process left uncopied when
it died. Arguments: none. Receivers return at once.
"""

health_asked = Signal()
"""Sent when a process is asked whether it can do its work.

Arguments: none. Receivers return a health.Check, at once.
"""

execution_removed = Signal()
"""Sent in the transaction that removes an execution for good, before its commit.

Whoever keeps something about it removes that now, or after the commit. Arguments:
`execution_id` (str) and `finished_before` (datetime): what finished before is kept no
longer, and is not to be taken up again. An exception in a receiver undoes the removal.
"""
