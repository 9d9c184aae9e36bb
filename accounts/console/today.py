"""What an account and its keys have used today, as pages show it beside the current numbers."""

from collections import Counter

from accounts.models import Account, ApiKey, UsageUnit
from accounts.usage_counts import Counts
from accounts.usage_reports import by_key, last, over_time, total


def used_today(account: Account, key: ApiKey | None = None) -> Counts:
    """Return what an account, or one of its keys, has used today (UTC). Nodes record it once a minute."""
    return total(over_time(account.pk, last(UsageUnit.DAY, 1), key.pk if key else None).values())


def messages_of_keys(account: Account) -> Counter[int]:
    """Return how many messages the keys of an account have sent today, by the primary key of the API key."""
    found = by_key(account.pk, last(UsageUnit.DAY, 1))
    return Counter({key_pk: counts.messages for key_pk, counts in found.items()})


def messages_of_clusters(account: Account) -> Counter[int]:
    """Return how many messages the clients and servers of clusters have sent today, by the cluster's primary key."""
    of_keys = messages_of_keys(account)
    found: Counter[int] = Counter()
    for key_pk, cluster_pk in ApiKey.objects.filter(pk__in=of_keys).values_list("pk", "cluster__pk"):
        found[cluster_pk] += of_keys[key_pk]
    return found
