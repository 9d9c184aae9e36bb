"""The service that sends messages for people."""

from django.db import transaction

from ..audit import record_change
from ..locks import lock_account
from ..models import AuditEntry, AuditVerb, Cluster
from ..usage import NotPublished, publish


def send_message(cluster: Cluster, channel: str, message: str) -> int:
    """Send a message to a channel, and return to how many connections. The audit log has the channel, not the message.

    Call this outside of a transaction: nobody waits for the account while the nodes send the message.

    Raises:
        NotPublished: the message was not sent, for example because a quota is used up.
        MaybePublished: the message may not have been sent.
        Gone, AccountSuspended: see `lock_account`.
    """
    entry = _record(cluster, channel)
    try:
        return publish(cluster, channel, message)
    except NotPublished:
        entry.delete()
        raise


@transaction.atomic
def _record(cluster: Cluster, channel: str) -> AuditEntry:
    lock_account(cluster)
    return record_change(AuditVerb.PUBLISHED, cluster, {"channel": (None, channel)})
