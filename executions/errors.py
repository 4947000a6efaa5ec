"""The root of everything that a refused change can raise."""


class RecordingError(Exception):
    """A change was refused and nothing of it was written; the message says why."""
