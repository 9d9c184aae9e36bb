"""The base classes of the admin: they save through the services, and protect what is revoked or suspended."""

import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import PermissionDenied, SuspiciousOperation, ValidationError
from django.db.models import Model, QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_variables

from .. import new_secrets
from ..audit import entries_of
from ..locks import Gone, Refused, sentence
from ..services import IssuedKey
from ..usage import connections_of
from .frozen import Frozen
from .operations import OperationsMixin

# The maximum number of rows that an inline shows.
MAX_INLINE_ROWS = 50
HISTORY_PAGE = 50


class CheckedRequests(admin.ModelAdmin):
    """Rejects what no page of the admin sends, what would make a query fail, and searches for what is hidden."""

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

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        """Leave out the fields of objects that the user may not see: a search would reveal their values."""
        return [name for name in super().get_search_fields(request) if self._may_see(request, str(name))]

    def _may_see(self, request: HttpRequest, lookup: str) -> bool:
        model: Any = self.model
        for part in lookup.split(LOOKUP_SEP):
            model = model._meta.get_field(part).related_model
            if model is None:  # the field itself
                break
            if not request.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}"):
                return False
        return True


def _can_be_stored(value: str) -> bool:
    """Return whether a query can contain a value: it may not be a larger integer than 64 bits, or have a NUL."""
    try:
        return abs(int(value)) < 2**63
    except ValueError:
        return "\0" not in value


class Unchangeable(CheckedRequests):
    """Shows rows that operators can delete, but neither add nor change."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnly(Unchangeable):
    """Shows rows that operators can neither add, change nor delete."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ServiceAdmin(Frozen, CheckedRequests, OperationsMixin):
    """Saves through the services, and shows the secrets of newly issued keys once."""

    show_full_result_count = False
    list_per_page = 50
    change_form_template = "accounts/change_form.html"
    object_history_template = "accounts/history.html"
    saves_in_transaction = True
    owned: ClassVar[list[tuple[type[Model], str]]] = []
    """The models whose objects are deleted together with one of this model, each with the lookup path to it."""
    add_fieldsets: Sequence[Any]
    """What the form for a new object shows: nothing that only an existing object has."""

    class Media:
        js = ["accounts/copy.js"]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.add_fieldsets if obj is None else super().get_fieldsets(request, obj)

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_secrets"
        return [
            path("secrets/<str:name>/", self.admin_site.admin_view(self._secrets_view), name=name),
            *super().get_urls(),
        ]

    def notices(self, obj: Any) -> list[str]:
        """Return sentences about the state of an object, for the top of its page."""
        frozen = self.why_frozen(obj)
        return [] if frozen is None else [frozen]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        obj = kwargs.get("obj")
        if obj is not None:
            context.update(buttons=self.buttons(request, obj), notices=self.notices(obj))
        return super().render_change_form(request, context, *args, **kwargs)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the audit entries of an object instead of the admin's own log, which misses changes through the API."""
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        if not self.has_view_or_change_permission(request, obj):
            raise PermissionDenied
        paginator = self.get_paginator(request, entries_of(obj), HISTORY_PAGE)
        page = paginator.get_page(request.GET.get(PAGE_VAR, 1))
        context = {
            **self.admin_site.each_context(request),
            "title": f"History: {obj}",
            "entries": page,
            "pages": paginator.get_elided_page_range(page.number),
            "page_var": PAGE_VAR,
            "object": obj,
            "opts": self.opts,
            "media": self.media,
        }
        return TemplateResponse(request, self.object_history_template, context)

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
            view: Any = super()
            save = view.changeform_view if self.saves_in_transaction else view._changeform_view
            response: HttpResponse = save(request, object_id, form_url, extra_context)
            return response
        except (ValidationError, Refused) as error:  # raised by a service; nothing was saved
            self.message_user(request, sentence(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self._with_secrets(request, super().response_add(request, obj, post_url_continue))

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return self._with_secrets(request, super().response_change(request, obj))

    def show_secrets(self, request: HttpRequest, keys: Sequence[IssuedKey], back: str) -> HttpResponse:
        name = new_secrets.remember(request.session, [issued.key for issued in keys], back)
        url = f"admin:{self.opts.app_label}_{self.opts.model_name}_secrets"
        return HttpResponseRedirect(reverse(url, args=[name]))

    def _with_secrets(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        keys = issued_keys(request)
        back = response.headers.get("Location") or reverse(
            f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
        )
        return self.show_secrets(request, keys, back) if keys else response

    @method_decorator(sensitive_variables())
    def _secrets_view(self, request: HttpRequest, name: str) -> HttpResponse:
        keys, back = new_secrets.take(request.session, name)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "New secrets" if len(keys) != 1 else "New secret",
            "keys": keys,
            "minutes": new_secrets.SHOWN_FOR_SECONDS // 60,
            "back": back or reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"),
            "media": self.media,
        }
        return TemplateResponse(request, "accounts/secrets.html", context)


class ConnectionsColumn(ServiceAdmin):
    """Adds the number of open connections, which a list counts for all of its rows together."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        if "connections" in changelist.list_display:
            counted = connections_of(changelist.result_list)
            for row in changelist.result_list:
                row.open_connections = counted[row]
        return changelist

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Also count the connections that the deletion closes."""
        objs = list(objs)
        names, counts, missing, protected = super().get_deleted_objects(objs, request)
        closed = sum(connections_of(objs).values())
        return names, {**counts, "open connections that will be closed now": closed}, missing, protected

    @admin.display(description="connections now")
    def connections(self, resource: Any) -> int:
        if resource.pk is None:
            return 0
        if not hasattr(resource, "open_connections"):
            resource.open_connections = connections_of([resource])[resource]
        return int(resource.open_connections)


def issued_keys(request: HttpRequest) -> list[IssuedKey]:
    """Return the keys that were issued in this request, as a list that can be appended to."""
    keys: list[IssuedKey] = request.__dict__.setdefault("issued_keys", [])
    return keys
