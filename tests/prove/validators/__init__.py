"""One validator per promise of the protocol (section 10), over the records of a run.

    verdicts = validate(records)
    print(report(verdicts))
    assert all(verdict.passed for verdict in verdicts)

Pure: no I/O, no clock, and nothing of the product's code.
"""

from tests.prove.records import Records
from tests.prove.validators import (
    bounded,
    committed_only,
    complete,
    durable,
    honest,
    private,
    truthful,
)
from tests.prove.validators.histories import Histories
from tests.prove.validators.reporting import report
from tests.prove.validators.verdicts import PromiseVerdict, Violation

__all__ = ["PromiseVerdict", "Violation", "report", "validate"]

_VALIDATORS = (complete, truthful, committed_only, durable, honest, bounded, private)


def validate(records: Records) -> list[PromiseVerdict]:
    """The verdict on each promise, P1 to P7."""
    histories = Histories(records)
    return [validator.judge(histories) for validator in _VALIDATORS]
