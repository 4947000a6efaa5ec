"""What a validator says: what it judged, what was wrong, and the history that shows it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Violation:
    """One thing that must not be, with the part of the history that shows it."""

    what: str
    client: str = ""
    connection: str = ""
    frames: tuple[str, ...] = ()
    """The frames around it, one line each."""
    log: tuple[str, ...] = ()
    """The rows of the event log it is about, one line each."""


@dataclass
class PromiseVerdict:
    """What became of one promise of the protocol, section 10."""

    promise: str
    title: str
    needed: tuple[str, ...]
    """Kinds of which at least one must have been judged: a check of nothing proves nothing."""
    covered: dict[str, int] = field(default_factory=dict)
    """How many of each kind were judged."""
    figures: dict[str, float] = field(default_factory=dict)
    """What was measured; names carry their units."""
    violations: list[Violation] = field(default_factory=list)

    def __post_init__(self) -> None:
        for kind in self.needed:
            self.covered.setdefault(kind, 0)

    def count(self, kind: str, number: int = 1) -> None:
        """So many more of this kind were judged."""
        self.covered[kind] = self.covered.get(kind, 0) + number

    @property
    def uncovered(self) -> list[str]:
        """The needed kinds of which none was judged."""
        return [kind for kind in self.needed if not self.covered[kind]]

    @property
    def passed(self) -> bool:
        """Whether everything needed was judged, and nothing was wrong."""
        return not self.violations and not self.uncovered
