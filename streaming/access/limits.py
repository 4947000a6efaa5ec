"""How many connections there may be, and counting those that there are. Pure."""

from collections import Counter
from collections.abc import Hashable
from enum import StrEnum
from typing import Final, NamedTuple


class Holder(StrEnum):
    """Whose connections are counted together; its text is said to who is refused."""

    PROCESS = "this server process"
    USER = "this user"
    ADDRESS = "this address without a login"
    EXECUTION = "this execution"


class ConnectionLimits(NamedTuple):
    """The most connections of one process: in all, of each user, of each execution."""

    process: int
    user: int
    execution: int

    def of(self, holder: Holder) -> int:
        """The limit that this holder's connections have; an address is like a user."""
        match holder:
            case Holder.PROCESS:
                return self.process
            case Holder.EXECUTION:
                return self.execution
            case _:
                return self.user


DEFAULT_LIMITS: Final = ConnectionLimits(process=10_000, user=1_000, execution=5_000)


class TooManyConnectionsError(Exception):
    """A limit is reached; the message, a close reason, names it."""

    def __init__(self, holder: Holder, limit: int) -> None:
        super().__init__(f"too many connections: {holder} may have {limit}")


class Place(NamedTuple):
    """One connection's place among those of its holder."""

    holder: Holder
    key: Hashable


class ConnectionPlaces:
    """The places that connections hold, each until it is given back."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._held: Counter[Place] = Counter()

    def held(self, holder: Holder, key: Hashable = None) -> int:
        """How many connections this one of the holders has."""
        return self._held[Place(holder, key)]

    def take(self, holder: Holder, key: Hashable = None) -> Place:
        """Take a place, to be given back; raises TooManyConnectionsError where none is left."""
        place = Place(holder, key)
        limit = self._limits.of(holder)
        if self._held[place] >= limit:
            raise TooManyConnectionsError(holder, limit)
        self._held[place] += 1
        return place

    def give_back(self, place: Place) -> None:
        """Give back a place that was taken."""
        self._held[place] -= 1
        if not self._held[place]:
            # Else every caller there ever was would be remembered.
            del self._held[place]
