"""What an account may own at most, in the words of the console."""

from accounts.locks import Refused
from accounts.models import Account, ApiKey, Webhook
from accounts.quotas import limit_of

from .numbers import whole


def exhausted(account: Account, quota: str) -> Refused:
    """Return why an account cannot own one more of what a quota limits, with the remedy."""
    if quota == "max_clusters":
        used, things, remedy = account.clusters.count(), "clusters", "Delete"
    elif quota == "max_members":
        used = account.memberships.count() + account.invitations.pending().count()
        things, remedy = "people", "Remove"
    elif quota == "max_webhooks":
        used, things, remedy = Webhook.objects.filter(cluster__account=account).count(), "webhooks", "Delete"
    else:
        used = ApiKey.objects.filter(cluster__account=account, revoked_at=None).count()
        things, remedy = "API keys", "Revoke"
    return Refused(
        f"You have {whole(used)} of {whole(limit_of(account, quota))} {things}. {remedy} one, or ask for more."
    )
