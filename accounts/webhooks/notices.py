"""What the owners of an account read when this service has switched off a webhook."""

import logging
from functools import partial

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction

from ..models import Account, Membership
from ..webhook_rows import Webhook

logger = logging.getLogger(__name__)


def tell_owners(webhook: Webhook, reason: str) -> None:
    """Mail the owners that a webhook was switched off, after the transaction is committed.

    Args:
        webhook: the webhook, with its cluster and account.
        reason: a sentence.
    """
    transaction.on_commit(partial(_mail, webhook.cluster.account, webhook.cluster.cluster_id, webhook.url, reason))


def _mail(account: Account, cluster_id: str, url: str, reason: str) -> None:
    shown = url.partition("?")[0]  # a query may contain a credential
    text = (
        f"The webhook {shown} of the cluster {cluster_id} was switched off. {reason}\n\n"
        "Deliveries that wait stay for a day. They are sent if you switch it on again at "
        f"{settings.SITE_NAME}, on the page Webhooks of the console."
    )
    owners = Membership.objects.active_owners([account.pk]).order_by("user__email")
    for owner in owners.values_list(
        "user__email", flat=True
    ):  # one mail each, so that nobody reads the others' addresses
        try:
            EmailMessage(f"{' '.join(account.name.split())}: a webhook was switched off", text, to=[owner]).send()
        except OSError as error:  # such as SMTPException
            logger.error("Cannot tell the owners of account %d that a webhook was switched off: %s", account.pk, error)
