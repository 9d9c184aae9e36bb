"""The base class of rows in the form of the object that they belong to."""

from collections.abc import Collection
from typing import Any

from django.contrib import admin
from django.forms import BaseModelFormSet
from django.http import HttpRequest


class ServiceInline(admin.TabularInline):
    """Rows in the form of the object that they belong to, saved through the services."""

    extra = 0

    def why_frozen(self, parent: Any) -> str | None:
        """Return a sentence that says why the rows of an object cannot be changed, or None if they can."""
        return None

    def has_add_permission(self, request: HttpRequest, obj: Any) -> bool:  # type: ignore[override]
        return super().has_add_permission(request, obj) and self._may_change(obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._may_change(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may_change(obj)

    def _may_change(self, parent: Any) -> bool:
        return parent is None or self.why_frozen(parent) is None

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        formset: Any = super().get_formset(request, obj, **kwargs)
        formset.inline = self  # for ServiceAdmin.save_formset(), which receives only the formset
        return formset

    def save_rows(self, request: HttpRequest, formset: BaseModelFormSet) -> None:
        """Save the rows that were added or changed, then delete the rows that were marked for deletion."""
        changed = {id(form.instance): form.changed_data for form in formset.forms}
        for row in self.sorted_for_saving(formset.save(commit=False)):
            self.save_row(request, row, changed[id(row)])
        for row in formset.deleted_objects:
            self.delete_row(row)

    def sorted_for_saving(self, rows: list[Any]) -> list[Any]:
        return rows

    def save_row(self, request: HttpRequest, row: Any, changed: Collection[str]) -> None:
        """Save a new row, or the changed fields of an existing row, through the services."""
        raise NotImplementedError

    def delete_row(self, row: Any) -> None:
        """Delete a row through the services."""
        raise NotImplementedError
