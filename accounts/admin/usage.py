"""The usage of each account, which accounts are the busiest, and whose clients were rejected last."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.db.models import Max, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from ..console.measures import DEFAULT_PERIOD, MEASURES, PERIODS, Measure, Period
from ..console.usage import Choice, usage_context
from ..models import Account, RefusedUsage, UsageUnit
from ..refusal_reasons import name_of_reason
from ..usage_reports import busiest

MAX_BUSIEST = 100
MAX_REFUSALS = 10


class LastRefusals(NamedTuple):
    """The rejected connections of one account for one reason in the last day."""

    account_pk: int
    account: str
    reason: str
    number: int
    hour: datetime
    """The last hour in which there were some."""


class UsagePages(ModelAdmin):
    """Adds the pages of usage to the admin of accounts."""

    def usage_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show the usage of an account."""
        account = self.get_object(request, str(pk))
        if account is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, str(pk))  # type: ignore[attr-defined,no-any-return]
        if not self.has_view_or_change_permission(request, account):
            raise PermissionDenied
        context = usage_context(account, Choice.of(request, account))
        return self._usage_page(request, "accounts/usage.html", f"Usage: {account}", object=account, **context)

    def busiest_view(self, request: HttpRequest) -> HttpResponse:
        """List the accounts that use most."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        period, measure = _chosen(request)
        found = busiest(period.span, measure.of, MAX_BUSIEST)
        accounts = Account.objects.in_bulk(list(found))
        rows = [
            {"account": accounts[pk], "cells": [each.write(each.of(counts)) for each in MEASURES]}
            for pk, counts in found.items()
            if pk in accounts
        ]
        context = {"rows": rows, "measures": MEASURES, "measure": measure, "periods": PERIODS, "period": period}
        return self._usage_page(request, "accounts/busiest.html", "Busiest accounts", **context)

    def _usage_page(self, request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
        site = self.admin_site.each_context(request)
        return TemplateResponse(
            request, template, {**site, "opts": self.opts, "media": self.media, **context, "title": title}
        )


def _chosen(request: HttpRequest) -> tuple[Period, Measure]:
    period, measure = request.GET.get("period"), request.GET.get("measure")
    return (
        next((each for each in PERIODS if each.slug == period), DEFAULT_PERIOD),
        next((each for each in MEASURES if each.slug == measure), MEASURES[0]),
    )


def last_refusals() -> list[LastRefusals]:
    """Return whose clients were rejected in the last day and why, the last first."""
    recent = RefusedUsage.objects.filter(unit=UsageUnit.HOUR, start__gte=timezone.now() - timedelta(days=1)).order_by()
    grouped = recent.values("account_pk", "reason").annotate(number=Sum("refusals"), hour=Max("start"))
    rows = list(grouped.order_by("-hour", "-number")[:MAX_REFUSALS])
    names = dict(Account.objects.filter(pk__in={row["account_pk"] for row in rows}).values_list("pk", "name"))
    return [
        LastRefusals(
            row["account_pk"], names[row["account_pk"]], name_of_reason(row["reason"]), row["number"], row["hour"]
        )
        for row in rows
        if row["account_pk"] in names
    ]
