"""The service that sends messages for people."""

from django.db import transaction

from ..audit import record_change
from ..locks import lock_account
from ..models import AuditVerb, Cluster
from ..usage import publish


@transaction.atomic
def send_message(cluster: Cluster, channel: str, message: str) -> int:
    """Send a message to a channel, and return to how many connections. The audit log has the channel, not the message.

    Raises:
        NotPublished: the message was not sent, for example because a quota is used up.
        Gone, AccountSuspended: see `lock_account`.
    """
    lock_account(cluster)
    record_change(AuditVerb.PUBLISHED, cluster, {"channel": (None, channel)})
    return publish(cluster, channel, message)
