"""Every migration can be applied and reversed on tables with rows, and loses no data."""

import datetime
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from tests.servers import PROJECT

Node = tuple[str, str]
Cells = dict[tuple[str, str, Any], Any]
"""The value of each field, by table, field and primary key."""

OURS = {config.label for config in apps.get_app_configs() if Path(config.path).parent == PROJECT}
GRAPH = MigrationLoader(None).graph
# The migrations of all our apps in the order of their dependencies.
MIGRATIONS: list[Node] = [
    node
    for node in dict.fromkeys(node for leaf in GRAPH.leaf_nodes() for node in GRAPH.forwards_plan(leaf))
    if node[0] in OURS
]

_numbers = itertools.count(1)


def migrate(app: str, name: str | None) -> None:
    MigrationExecutor(connection).migrate([(app, name)])


def models_after(done: list[Node]) -> list[type[models.Model]]:
    """Return our models after some migrations, including those behind many-to-many fields."""
    all_models = GRAPH.make_state(nodes=done).apps.get_models(include_auto_created=True)
    return [model for model in all_models if model._meta.app_label in OURS]


def cells_after(done: list[Node]) -> Cells:
    return {
        (model._meta.db_table, field, row[model._meta.pk.attname]): value
        for model in models_after(done)
        for row in model._default_manager.values()
        for field, value in row.items()
    }


def lost_cells(before: Cells, done: list[Node]) -> Cells:
    """Return the values that some migrations have lost although their table and field still exist."""
    fields = {
        (model._meta.db_table, field.attname) for model in models_after(done) for field in model._meta.concrete_fields
    }
    now = cells_after(done)
    return {cell: value for cell, value in before.items() if cell[:2] in fields and now.get(cell, now) != value}


def create_row(model: type[models.Model]) -> models.Model:
    """Create a row with a value for each field that needs one."""
    needed = [field for field in model._meta.concrete_fields if not (field.has_default() or field.null)]
    return model._default_manager.create(
        **{field.name: value_for(field) for field in needed if not isinstance(field, models.AutoField)}
    )


def value_for(field: Any) -> Any:
    """Return a valid value for a field, a different one each time where possible."""
    number = next(_numbers)
    if field.choices:
        return field.choices[0][0]
    match field:
        case models.ForeignKey():
            return create_row(field.related_model)
        case models.CharField() | models.TextField():
            return f"row-{number}@example.com" if isinstance(field, models.EmailField) else f"row-{number}"
        case models.IntegerField() | models.JSONField() | models.BooleanField():
            return number if not isinstance(field, models.BooleanField) else True
        case models.DateTimeField():
            return datetime.datetime(2026, 1, 1, second=number % 60, tzinfo=datetime.UTC)
        case models.DateField():
            return datetime.date(2026, 1, 1)
    raise AssertionError(f"Add a valid value for {field!r} here.")


@pytest.fixture
def empty_database(transactional_db: None) -> Iterator[None]:
    """A database without our tables."""
    for app in {app for app, _ in MIGRATIONS}:
        migrate(app, None)
    yield
    call_command("migrate", verbosity=0)


@pytest.mark.usefixtures("empty_database")
def test_each_migration_is_applied_and_reversed_with_rows_in_every_table() -> None:
    cells: Cells = {}
    for number, node in enumerate(MIGRATIONS):
        done = MIGRATIONS[: number + 1]
        migrate(*node)
        assert lost_cells(cells, done) == {}, f"forward to {node}"
        for model in models_after(done):
            create_row(model)
        cells = cells_after(done)
    tables = {model._meta.db_table for model in models_after(MIGRATIONS)}
    assert {table for table, _, _ in cells} == tables

    for number, (app, name) in reversed(list(enumerate(MIGRATIONS))):
        done = MIGRATIONS[:number]
        before = cells_after([*done, (app, name)])
        migrate(app, next((earlier for label, earlier in reversed(done) if label == app), None))
        assert lost_cells(before, done) == {}, f"back from {name}"
    assert tables.isdisjoint(connection.introspection.table_names())


@pytest.mark.parametrize("node", MIGRATIONS, ids=".".join)
def test_every_operation_can_be_reversed(node: Node) -> None:
    assert [operation for operation in GRAPH.nodes[node].operations if not operation.reversible] == []
