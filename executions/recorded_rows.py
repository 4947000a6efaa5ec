"""Rows that change only through `executions.recording`.

`save()` goes that way by itself; what would slip past it raises UnrecordedWriteError. The
tables are in `executions.models`.
"""

from collections.abc import Collection, Iterable
from copy import copy
from types import SimpleNamespace
from typing import Any, ClassVar, NoReturn, Self, TypeVar

from django.db import models

RowT = TypeVar("RowT", bound=models.Model)


class UnrecordedWriteError(RuntimeError):
    """A write that would change rows without an event; the message says what to call."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} would change rows without an event, so no viewer would learn of it: "
            "use executions.recording.changing() or create_execution()"
        )


class RecordedQuerySet(models.QuerySet[RowT]):
    """Reads like any other; refuses to write past the one write path."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise UnrecordedWriteError(f"{self.model.__name__}.objects.update()")

    def bulk_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnrecordedWriteError(f"{self.model.__name__}.objects.bulk_create()")

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnrecordedWriteError(f"{self.model.__name__}.objects.bulk_update()")

    def delete(self) -> NoReturn:
        raise UnrecordedWriteError(f"{self.model.__name__}.objects.delete()")


class RecordedModel(models.Model):
    """A row that is written only by `executions.recording`."""

    objects = RecordedQuerySet.as_manager()
    unrecorded_writes: ClassVar[models.Manager[Self]] = models.Manager()
    """The way past the write path, for `executions.recording` itself."""

    class Meta:
        abstract = True
        # related managers' add() and set() write through the base manager
        base_manager_name = "objects"

    def save(self, *args: Any, **kwargs: Any) -> None:
        raise UnrecordedWriteError(f"{type(self).__name__}.save()")

    def save_base(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnrecordedWriteError(f"{type(self).__name__}.save_base()")

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnrecordedWriteError(f"{type(self).__name__}.delete()")


class SavedThroughRecording(RecordedModel):
    """A row whose `save()` records what was changed on it since it was loaded."""

    class Meta:
        abstract = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._loaded: dict[str, Any] = {}

    def save(
        self,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Record this object as one event; raises what `executions.recording` raises.

        Only fields changed since loading are written, so that a stale object takes
        nothing back; `update_fields` narrows them further, and leaves the others changed.
        """
        from executions import recording

        recording.record_saved(self, update_fields)

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        row = super().from_db(*args, **kwargs)
        row.remember_loaded()
        return row

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Self] | None = None,
    ) -> None:
        """As Django's; what is read is what `save()` compares with from here on."""
        names = None if fields is None else list(fields)
        super().refresh_from_db(using, names, from_queryset)
        self.remember_loaded(names)

    def remember_loaded(self, names: Collection[str] | None = None) -> None:
        """Take the present values as those from which `save()` tells what changed.

        All that are there, or those of the fields of these names.
        """
        for field in self._meta.concrete_fields:
            known = field.attname in self.__dict__
            if known and (names is None or field.name in names or field.attname in names):
                self._loaded[field.attname] = copy(self.__dict__[field.attname])

    def loaded_value(self, name: str) -> Any:
        """The value the field had when the row was loaded; a deferred one is read."""
        if name not in self._loaded:
            row = type(self).objects.filter(pk=self._loaded[self._meta.pk.attname])
            self._loaded[name] = row.values_list(name, flat=True).get()
        return self._loaded[name]

    @property
    def is_as_loaded(self) -> bool:
        """Whether no field was set since: to another value, or to its equal of another type."""
        return all(
            (value := self.__dict__.get(name, loaded)) is loaded
            or (type(value) is type(loaded) and value == loaded)
            for name, loaded in self._loaded.items()
        )

    def as_loaded(self) -> Any:
        """The values the fields had when the row was loaded, as attributes."""
        return SimpleNamespace(**self._loaded)

    def take_over(self, recorded: "SavedThroughRecording") -> None:
        """Become equal to a row that has just been recorded."""
        for field in self._meta.concrete_fields:
            setattr(self, field.attname, getattr(recorded, field.attname))
        self._state.adding = False
        self._state.db = recorded._state.db
        self.remember_loaded()

    def changed_values(self) -> dict[str, Any]:
        """The fields set since the row was loaded, with their values."""
        names = [field.attname for field in self._meta.concrete_fields]
        return {
            name: self.__dict__[name]
            for name in names
            if name in self.__dict__
            and (name not in self._loaded or self.__dict__[name] != self._loaded[name])
        }
