"""Operations of the admin, such as suspending an account: buttons and list actions, with a page that asks first."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.utils import model_ngettext
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Model, QuerySet
from django.forms import Form
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from ..locks import Refused, lock_accounts, sentence
from ..models import Resource, account_of
from ..services import IssuedKey
from ..usage import connections_of

# How many objects the page that asks lists.
MAX_LISTED = 100


class Operation(NamedTuple):
    """Something to do with objects, beyond changing their fields."""

    name: str
    """In URLs and forms."""
    label: str
    """On the button."""
    done: str
    """What was done, such as "suspended"."""
    consequence: str
    """A sentence that says what will happen."""
    run: Callable[..., IssuedKey | None]
    """Called with an object and the values of the form; returns a key if it has a new secret."""
    applies_to: Callable[[Any], bool]
    """Whether an object is in a state for it."""
    otherwise: str
    """A sentence for objects that are not."""
    counted: str | None = None
    """Says what happens to the open connections, whose number follows. None if the operation closes none."""
    form: type[Form] | None = None
    """Asks for details."""


class Listed(NamedTuple):
    """An object on the page that asks."""

    name: str
    tenant: str
    connections: int | None


class OperationsMixin(admin.ModelAdmin):
    """Gives the objects of a model their operations, to people who may change the objects."""

    operations: Sequence[Operation] = ()

    def show_secrets(self, request: HttpRequest, keys: Sequence[IssuedKey], back: str) -> HttpResponse:
        """Redirect to a page that shows new secrets."""
        raise NotImplementedError

    def may_operate(self, request: HttpRequest) -> bool:
        """Return whether the user may use the operations."""
        # Of no object in particular: a suspended account cannot be changed, but it can be resumed.
        return self.has_change_permission(request)

    def buttons(self, request: HttpRequest, obj: Any) -> list[dict[str, str]]:
        """Return the label and the URL of each operation that the user can apply to an object now."""
        if not self.may_operate(request):
            return []
        return [
            {"label": operation.label, "url": reverse(self._url_name(operation), args=[obj.pk])}
            for operation in self.operations
            if operation.applies_to(obj)
        ]

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(
                f"<int:pk>/{operation.name}/",
                self.admin_site.admin_view(partial(self._operate_on_one, operation)),
                name=self._url_name(operation).removeprefix("admin:"),
            )
            for operation in self.operations
        ]
        return own + super().get_urls()

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request)
        # Not if there are other actions: people may change objects without the permission to delete them.
        if IS_POPUP_VAR not in request.GET and self.may_operate(request):
            for operation in self.operations:
                function = partial(self._operate_on_selected, operation)
                actions[operation.name] = (function, operation.name, operation.label)
        return actions

    def _url_name(self, operation: Operation) -> str:
        return f"admin:{self.opts.app_label}_{self.opts.model_name}_{operation.name}"

    def _operate_on_one(self, operation: Operation, request: HttpRequest, pk: int) -> HttpResponse:
        if not self.may_operate(request):
            raise PermissionDenied
        objects = self.get_queryset(request).filter(pk=pk)
        if not objects.exists():
            return self._get_obj_does_not_exist_redirect(request, self.opts, str(pk))  # type: ignore[attr-defined,no-any-return]
        back = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[pk])
        response = self._operate(request, operation, objects, confirmed=request.method == "POST", back=back)
        return response or HttpResponseRedirect(back)

    def _operate_on_selected(
        self, operation: Operation, model_admin: admin.ModelAdmin, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponse | None:
        back = request.get_full_path()
        return self._operate(request, operation, queryset, confirmed="confirmed" in request.POST, back=back)

    def _operate(
        self, request: HttpRequest, operation: Operation, queryset: QuerySet[Any], *, confirmed: bool, back: str
    ) -> HttpResponse | None:
        """Ask first, then apply an operation to objects. Objects to which it does not apply are left out.

        Returns:
            The page that asks or that shows new secrets; None for the page to continue with.
        """
        objects = [obj for obj in queryset if operation.applies_to(obj)]
        if not objects:
            self.message_user(request, operation.otherwise, messages.ERROR)
            return None
        form = operation.form(request.POST if confirmed else None) if operation.form else None
        if not confirmed or (form is not None and not form.is_valid()):
            return self._ask(request, operation, objects, form, back)
        return self._apply(request, operation, objects, form.cleaned_data if form else {}, back)

    @transaction.atomic
    def _apply(
        self, request: HttpRequest, operation: Operation, objects: list[Any], values: dict[str, Any], back: str
    ) -> HttpResponse | None:
        lock_accounts({account_of(obj).pk for obj in objects})
        keys, count = [], 0
        for obj in objects:
            try:
                with transaction.atomic():
                    issued = operation.run(obj, **values)
            except (ValidationError, Refused) as error:  # something has changed since the page was shown
                self.message_user(request, f"{obj}: {sentence(error)}", messages.ERROR)
                continue
            if issued is not None:
                keys.append(issued)
            self.log_change(request, obj, f"{operation.done.capitalize()}.")
            count += 1
        if count:
            done = f"{count} {model_ngettext(self.opts, count)} {operation.done}."
            self.message_user(request, done, messages.SUCCESS)
        return self.show_secrets(request, keys, back) if keys else None

    def _name_of(self, objects: list[Any]) -> str:
        return str(objects[0]) if len(objects) == 1 else f"{len(objects)} {model_ngettext(self.opts, len(objects))}"

    def _ask(
        self, request: HttpRequest, operation: Operation, objects: list[Any], form: Form | None, back: str
    ) -> HttpResponse:
        shown = objects[:MAX_LISTED]
        connections = connections_of(shown) if operation.counted is not None else {}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{operation.label}: {self._name_of(objects)}",
            "operation": operation,
            "form": form,
            "listed": [Listed(str(obj), _tenant_of(obj), connections.get(obj)) for obj in shown],
            "more": len(objects) - len(shown),
            "connections": sum(connections.values()) if operation.counted is not None else None,
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "back": back,
        }
        return TemplateResponse(request, "accounts/confirm.html", context)


def _tenant_of(obj: Resource | Model) -> str:
    return str(account_of(obj))  # type: ignore[arg-type]
