"""Which workflow definition a run has, and what it plans."""

from collections.abc import Mapping
from typing import Any

import structlog

from executions.models import WorkflowDefinition
from executions.temporal.history.changes import RunStarted
from executions.temporal.history.plan import MalformedPlanError, PlannedActivity, planned_activities
from executions.temporal.models import RegisteredDefinition

log = structlog.get_logger(__name__)


def register(definitions: Mapping[str, Any]) -> None:
    """Have runs of these workflow types planned by these definitions from here on."""
    for workflow_type, definition in sorted(definitions.items()):
        RegisteredDefinition.objects.update_or_create(
            workflow_type=workflow_type, defaults={"definition": definition}
        )


def definition_for(told: RunStarted) -> Any:
    """The definition given with the run's start, else the one registered for its type, or None."""
    if told.definition is not None:
        return told.definition
    rows = RegisteredDefinition.objects.filter(pk=told.workflow_type)
    return rows.values_list("definition", flat=True).first()


def stored_definition(execution_id: str) -> Any:
    """The definition that the execution was created with, or None."""
    rows = WorkflowDefinition.objects.filter(pk=execution_id)
    return rows.values_list("definition", flat=True).first()


def plan_of(execution_id: str, definition: Any) -> tuple[PlannedActivity, ...]:
    """What the definition plans: nothing where it is of no form that is known here."""
    try:
        return planned_activities(definition)
    except MalformedPlanError as error:
        log.warning("definition_plans_nothing", execution_id=execution_id, problem=str(error))
        return ()
