"""The write path's statements: their SQL made once, then run for every change.

Django makes a statement anew for each query, which takes it longer than a database takes to run
one of these. What is rarer, or larger, than every change goes through querysets. Nothing here
opens a transaction, or knows what may be written.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from django.db import connection, models

RowT = TypeVar("RowT", bound=models.Model)


class RowReader(Generic[RowT]):
    """Reads what `rows` would, with other values in its conditions: one row, or None."""

    def __init__(self, rows: "models.QuerySet[RowT]") -> None:
        compiler = rows.query.get_compiler(connection=connection)
        self._sql, _ = compiler.as_sql()
        columns: list[Any] = [column for column, *_ in compiler.select]
        self._converters = compiler.get_converters(columns)
        self._names = [column.target.attname for column in columns]
        self._model = rows.model

    def read(self, *values: str) -> RowT | None:
        """The row; `values` in the order of the query's conditions."""
        with connection.cursor() as cursor:
            cursor.execute(self._sql, values)
            found = cursor.fetchone()
        if found is None:
            return None
        row = list(found)
        for position, (converters, expression) in self._converters.items():
            for convert in converters:
                row[position] = convert(row[position], expression, connection)
        return self._model.from_db(connection.alias, self._names, row)


class Statement(NamedTuple):
    """A statement of its own, and the values in the order of its placeholders."""

    sql: str
    values: list[Any]


def update(row: models.Model, names: Iterable[str]) -> Statement:
    """Write the fields of these names (attnames) to the row's place in its table."""
    written = tuple(names)
    sql, fields = _update_sql(type(row), written)
    return Statement(sql, _database_values(row, fields))


def insert(row: models.Model) -> Statement:
    """Add the row, without learning which number the database gives it."""
    sql, fields = _insert_sql(type(row))
    return Statement(sql, _database_values(row, fields))


def run_together(statements: Sequence[Statement]) -> None:
    """Run them in order: in one round trip, where the database takes several at once.

    Needs an open transaction: they are to be committed together, or not at all.
    """
    # PostgreSQL takes any number of statements in a text that has its values in it already.
    if not getattr(connection.features, "uses_server_side_binding", True):
        values = [value for statement in statements for value in statement.values]
        statements = [Statement("; ".join(statement.sql for statement in statements), values)]
    with connection.cursor() as cursor:
        for sql, values in statements:
            cursor.execute(sql, values)


@cache
def _update_sql(
    model: type[models.Model], names: tuple[str, ...]
) -> tuple[str, list["models.Field[Any, Any]"]]:
    fields = {field.attname: field for field in model._meta.concrete_fields}
    key = model._meta.pk
    assignments = ", ".join(f"{_column(fields[name])} = %s" for name in names)
    sql = f"UPDATE {_table(model)} SET {assignments} WHERE {_column(key)} = %s"  # noqa: S608 - names of ours
    return sql, [*(fields[name] for name in names), key]


@cache
def _insert_sql(model: type[models.Model]) -> tuple[str, list["models.Field[Any, Any]"]]:
    fields = [
        field for field in model._meta.concrete_fields if not isinstance(field, models.AutoField)
    ]
    columns = ", ".join(_column(field) for field in fields)
    placeholders = ", ".join("%s" for _ in fields)
    return f"INSERT INTO {_table(model)} ({columns}) VALUES ({placeholders})", fields  # noqa: S608 - names of ours


def _database_values(row: models.Model, fields: list["models.Field[Any, Any]"]) -> list[Any]:
    return [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]


def _table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


def _column(field: "models.Field[Any, Any]") -> str:
    return connection.ops.quote_name(str(field.column))
