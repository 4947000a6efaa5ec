"""The example workflows by name, as `manage.py start_example` offers them."""

from dataclasses import dataclass
from typing import Any, Final

from executions.temporal.examples.workflows import (
    CancellableOptions,
    CancellableWorkflow,
    FailingOptions,
    FailingWorkflow,
    FanOutOptions,
    FanOutWorkflow,
    PipelineOptions,
    PipelineWorkflow,
)


@dataclass(frozen=True, slots=True)
class Example:
    """An example workflow; `options` is the type of its one argument, a dataclass."""

    name: str
    workflow: type
    options: type[Any]

    @property
    def summary(self) -> str:
        return (self.workflow.__doc__ or "").strip()


DEFAULT_EXAMPLE: Final = "pipeline"

EXAMPLES: Final = {
    example.name: example
    for example in (
        Example("pipeline", PipelineWorkflow, PipelineOptions),
        Example("fan_out", FanOutWorkflow, FanOutOptions),
        Example("failing", FailingWorkflow, FailingOptions),
        Example("cancellable", CancellableWorkflow, CancellableOptions),
    )
}
