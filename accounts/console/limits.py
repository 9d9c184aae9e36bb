"""What an account may own at most, in the words of the console."""

from accounts.locks import Refused
from accounts.models import Account, ApiKey
from accounts.quotas import default_quotas, limit_of

from .numbers import whole


def limits_of_keys(account: Account) -> dict[str, int | None]:
    """Return the account's quotas that its keys cannot exceed, by field name; None for a quota that is not set."""
    return {
        name: default if (own := getattr(account, name)) is None else own for name, default in default_quotas().items()
    }


def exhausted(account: Account, quota: str) -> Refused:
    """Return why an account cannot own one more of what a quota limits, with the remedy."""
    if quota == "max_clusters":
        used, things, remedy = account.clusters.count(), "clusters", "Delete"
    elif quota == "max_members":
        used = account.memberships.count() + account.invitations.pending().count()
        things, remedy = "people", "Remove"
    else:
        used = ApiKey.objects.filter(cluster__account=account, revoked_at=None).count()
        things, remedy = "API keys", "Revoke"
    return Refused(
        f"You have {whole(used)} of {whole(limit_of(account, quota))} {things}. {remedy} one, or ask for more."
    )
