"""The base classes of the admin: they save through the services, and show new secrets once."""

import contextlib
from collections.abc import Callable, Collection
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import model_ngettext
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.db.models import Model, QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.html import format_html

from .locks import Gone, Refused
from .services import IssuedKey
from .usage import connections_of

# The maximum number of rows that an inline shows.
MAX_INLINE_ROWS = 50


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


class CheckedRequests(admin.ModelAdmin):
    """Rejects what no page of the admin sends, and what would make a query fail: lookups, IDs and selections."""

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        return super().get_object(request, object_id, from_field) if _can_be_stored(object_id) else None

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> HttpResponse | None:
        try:
            for selected in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(selected)
                if not _can_be_stored(selected):
                    raise ValidationError("It is too large, or contains NUL.")
        except ValidationError as error:
            raise SuspiciousOperation("The ID of a selected object is invalid.") from error
        return super().response_action(request, queryset, *args)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        field, _, operator = lookup.rpartition("__")
        is_linked = not field or operator in ("exact", "isnull", "gte", "lt")
        return is_linked and _can_be_stored(value) and super().lookup_allowed(lookup, value, request)


def _can_be_stored(value: str) -> bool:
    """Return whether a query can contain a value: it may not be a larger integer than 64 bits, or have a NUL."""
    try:
        return abs(int(value)) < 2**63
    except ValueError:
        return "\0" not in value


class ServiceAdmin(CheckedRequests):
    """Saves through the services, and shows the secrets of newly issued keys once."""

    show_full_result_count = False
    list_per_page = 50
    owned: ClassVar[list[tuple[type[Model], str]]] = []
    """The models whose objects are deleted together with one of this model, each with the lookup path to it."""

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        """Leave out inlines with many rows if their model has its own list: Django limits the fields of a form."""

        def is_short(model: type[Model]) -> bool:
            rows = model._default_manager.filter(**{str(self.opts.model_name): obj})
            return rows[: MAX_INLINE_ROWS + 1].count() <= MAX_INLINE_ROWS

        return [
            inline
            for inline in super().get_inlines(request, obj)
            if obj is None or not self.admin_site.is_registered(inline.model) or is_short(inline.model)
        ]

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        """Leave out the fields of objects that the user may not see: a search would reveal their values."""
        return [name for name in super().get_search_fields(request) if self._may_see(request, str(name))]

    def _may_see(self, request: HttpRequest, lookup: str) -> bool:
        model: Any = self.model
        for part in lookup.split(LOOKUP_SEP)[:-1]:
            model = model._meta.get_field(part).related_model
            if not request.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}"):
                return False
        return True

    def delete_object(self, obj: Any) -> None:
        """Delete an object through the services."""
        raise NotImplementedError

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with contextlib.suppress(Gone):
            self.delete_object(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for obj in queryset:
            self.delete_model(request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Count what is deleted with the objects. By default, Django loads and lists each of thousands of keys."""
        objs = list(objs)
        perms_needed = {
            model._meta.verbose_name
            for model in (self.model, *(model for model, _ in self.owned))
            if not self.admin_site.get_model_admin(model).has_delete_permission(request)
        }
        counts = {
            model._meta.verbose_name_plural: model._default_manager.filter(**{f"{path}__in": objs}).count()
            for model, path in self.owned
        }
        return [str(obj) for obj in objs], {self.opts.verbose_name_plural: len(objs), **counts}, perms_needed, []

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm, change: bool) -> None:
        """Save the object, with the values of the form, through the services."""
        raise NotImplementedError

    def save_formset(self, request: HttpRequest, form: ModelForm, formset: Any, change: bool) -> None:
        formset.inline.save_rows(request, formset)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except (ValidationError, Refused) as error:  # raised by a service; nothing was saved
            self.message_user(request, sentence(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        response = super().response_add(request, obj, post_url_continue)
        return self._with_secrets(request, response)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return self._with_secrets(request, super().response_change(request, obj))

    def call_for_each(
        self, request: HttpRequest, queryset: QuerySet[Any], service: Callable[[Any], object], done: str
    ) -> None:
        """Call a service for each selected object, and record the change in the object's history.

        Args:
            request: the current request.
            queryset: the selected objects.
            service: the function to call with each object.
            done: what was done, such as "suspended", for the history and the message on the page.
        """
        count = 0
        for obj in queryset:
            try:
                service(obj)
            except (ValidationError, Refused) as error:
                self.message_user(request, f"{obj}: {sentence(error)}", messages.ERROR)
                continue
            self.log_change(request, obj, f"{done.capitalize()}.")
            count += 1
        if count:
            self.message_user(request, f"{count} {model_ngettext(self.opts, count)} {done}.", messages.SUCCESS)

    def _with_secrets(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        keys = issued_keys(request)
        return secrets_page(self, request, keys, response.headers.get("Location", "..")) if keys else response


class ConnectionsColumn(ServiceAdmin):
    """Adds the number of open connections, which a list counts for all of its rows together."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        counted = connections_of(changelist.result_list)
        for row in changelist.result_list:
            row.open_connections = counted[row]
        return changelist

    @admin.display(description="connections now")
    def connections(self, resource: Any) -> int:
        if resource.pk is None:
            return 0
        if not hasattr(resource, "open_connections"):
            resource.open_connections = connections_of([resource])[resource]
        return int(resource.open_connections)


class ServiceInline(admin.TabularInline):
    """Rows in the form of the object that they belong to, saved through the services."""

    extra = 0

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


def sentence(error: ValidationError | Refused) -> str:
    """Return why a service did not do what it was called for."""
    return " ".join(error.messages) if isinstance(error, ValidationError) else str(error)


def issued_keys(request: HttpRequest) -> list[IssuedKey]:
    """Return the keys that were issued in this request, as a list that can be appended to."""
    keys: list[IssuedKey] = request.__dict__.setdefault("issued_keys", [])
    return keys


def secrets_page(model_admin: admin.ModelAdmin, request: HttpRequest, keys: list[IssuedKey], back: str) -> HttpResponse:
    """Return a page that shows secrets once. A Django message would store them in a cookie or a session."""
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": "Secrets of API keys",
        "keys": keys,
        "back": back,
    }
    response = TemplateResponse(request, "accounts/secrets.html", context)
    add_never_cache_headers(response)
    return response


def changelist_link(model: type[Model], count: int, **filters: object) -> str:
    """Return a number as a link to the list of the objects that it counts."""
    url = reverse(f"admin:accounts_{model._meta.model_name}_changelist", query=filters)
    return format_html('<a href="{}">{}</a>', url, count)
