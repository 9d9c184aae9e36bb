"""What the lists of the admin show, and how they are filtered."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html


def timestamp_filter(field: str, label: str, *, if_set: str, if_null: str) -> type[admin.SimpleListFilter]:
    """Return a list filter by whether a timestamp is set.

    Args:
        field: the name of the timestamp's field.
        label: the title of the filter, and its query parameter.
        if_set: the label of the choice for objects whose timestamp is set.
        if_null: the label of the other choice.
    """

    class TimestampFilter(admin.SimpleListFilter):
        title = label
        parameter_name = label

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return [("no", if_null), ("yes", if_set)]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            if self.value() in ("yes", "no"):
                return queryset.filter(**{f"{field}__isnull": self.value() == "no"})
            return queryset

    return TimestampFilter


def changelist_link(model: type[Model], count: int, **filters: object) -> str:
    """Return a number as a link to the list of the objects that it counts."""
    url = reverse(f"admin:accounts_{model._meta.model_name}_changelist", query=filters)
    return format_html('<a href="{}">{}</a>', url, count)


def change_link(obj: Model) -> str:
    """Return the name of an object as a link to its page."""
    return format_html(
        '<a href="{}">{}</a>', reverse(f"admin:accounts_{obj._meta.model_name}_change", args=[obj.pk]), obj
    )


def copyable(text: str, shown: str | None = None) -> str:
    """Return a text that can be copied with a button, which a script adds.

    Args:
        text: what is copied.
        shown: what is shown instead of the text.
    """
    return format_html('<code data-copy="{}">{}</code>', text, text if shown is None else shown)
