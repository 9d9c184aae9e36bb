"""What people read when an account has nearly or wholly used a quota: a mail to its owners, and a banner."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import QuerySet

from .models import Account, QuotaKind, QuotaNotice
from .quotas import limit_of
from .usage import messages_today, seconds_to_midnight, today

logger = logging.getLogger(__name__)

NEAR, REACHED = 80, 100
"""The shares of a quota, in percent, from which owners are warned."""
_FIELDS = {QuotaKind.MESSAGES: "max_messages_per_day", QuotaKind.CONNECTIONS: "max_connections"}


class QuotaWarning(NamedTuple):
    """A quota of which an account has used so much that its people should know."""

    kind: QuotaKind
    percent: int
    """How much is used, rounded down."""
    quota: int

    @property
    def level(self) -> int:
        """NEAR or REACHED."""
        return REACHED if self.percent >= REACHED else NEAR

    @property
    def headline(self) -> str:
        """The sentence that says how much is used."""
        if self.level == NEAR:
            what = "today’s messages" if self.kind == QuotaKind.MESSAGES else "the connections"
            return f"{self.percent} % of {what} are used."
        if self.kind == QuotaKind.MESSAGES:
            return f"Today’s quota of {self.quota:,} messages is reached."
        return f"The quota of {self.quota:,} connections is reached."

    @property
    def consequence(self) -> str:
        """The sentences that say what follows."""
        if self.level == NEAR:
            then = (
                "messages are rejected until midnight UTC"
                if self.kind == QuotaKind.MESSAGES
                else "connections are rejected"
            )
            return f"When the quota of {self.quota:,} is reached, further {then}."
        if self.kind == QuotaKind.MESSAGES:
            return f"Messages are rejected until midnight UTC, in {_time_left()}. Connections stay open."
        return "New connections are rejected until others close."

    @property
    def subject(self) -> str:
        """What a mail is about, after the account's name."""
        what = "today’s messages" if self.kind == QuotaKind.MESSAGES else "its connections"
        return f"has used {self.level} % of {what}"


def _time_left() -> str:
    hours, minutes = divmod(-(-seconds_to_midnight() // 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def warnings_of(account: Account, *, messages: int, connections: int) -> Iterator[QuotaWarning]:
    """Yield the quotas that an account has nearly or wholly used.

    Args:
        account: the account.
        messages: the messages that count against its quota today.
        connections: its connections at the same time.
    """
    for kind, used in ((QuotaKind.MESSAGES, messages), (QuotaKind.CONNECTIONS, connections)):
        quota = limit_of(account, _FIELDS[kind])
        if quota and used * 100 >= quota * NEAR:
            yield QuotaWarning(kind, used * 100 // quota, quota)


def messages_of(account: Account) -> int:
    """Return how many messages count against the quota of an account today."""
    return int(Account.objects.filter(pk=account.pk).values_list(messages_today("pk"), flat=True).get())


def send_quota_notices(peaks: Mapping[int, int]) -> None:
    """Mail the owners of accounts that have nearly or wholly used a quota, once a day for each.

    Several nodes may call this at the same time; the node that creates the row of a notice sends it.

    Args:
        peaks: the most connections of accounts that were used in the last minute, by primary key.
    """
    if not settings.QUOTA_NOTICES:
        return
    for account in _notified(peaks):
        for warning in warnings_of(account, messages=account.sent_today, connections=peaks[account.pk]):
            _send_once(account, warning)


def _notified(peaks: Mapping[int, int]) -> QuerySet[Any]:
    accounts: QuerySet[Any] = Account.objects.filter(pk__in=list(peaks), sends_quota_notices=True, suspended_at=None)
    return accounts.annotate(sent_today=messages_today("pk"))  # type: ignore[no-any-return]


def _send_once(account: Account, warning: QuotaWarning) -> None:
    day: dict[str, Any] = {"account": account, "day": today(), "quota": warning.kind}
    notice, is_new = QuotaNotice.objects.get_or_create(**day, percent=warning.level)
    if not is_new:
        return
    if warning.level == REACHED:  # the notice of 80 % would come too late
        QuotaNotice.objects.bulk_create([QuotaNotice(**day, percent=NEAR)], ignore_conflicts=True)
    try:
        _mail(account, warning)
    except OSError as error:  # such as SMTPException; any node tries again
        notice.delete()
        logger.error("Cannot send the quota notice of account %d yet: %s", account.pk, error)


def _mail(account: Account, warning: QuotaWarning) -> None:
    owners = list(
        account.memberships.active_owners([account.pk]).order_by("user__email").values_list("user__email", flat=True)
    )
    name = " ".join(account.name.split())
    text = (
        f"{warning.headline} {warning.consequence}\n\n"
        f"This is about the account {name} at {settings.SITE_NAME}. The page Usage of the console shows what uses "
        "it.\n\n"
        "Owners get this mail once a day at most. They can switch it off in the account settings."
    )
    for owner in owners:  # one mail each, so that nobody reads the others' addresses
        EmailMessage(f"{name} {warning.subject}", text, to=[owner]).send()
