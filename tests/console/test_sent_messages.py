"""A message that a person sends is recorded before it is sent, and nobody waits while the nodes send it."""

import pytest
from django.db import connection

from accounts import services
from accounts.models import Account, AuditEntry, AuditVerb, Cluster
from accounts.usage import MaybePublished, NotPublished
from tests.console.planes import Plane
from tests.console.tenants import Tenants

pytestmark = pytest.mark.django_db(transaction=True)


class BusyPlane(Plane):
    """A data plane that takes its time, while other people change the account."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error

    def publish(self, cluster: Cluster, channel: str, message: str) -> int:
        assert not connection.in_atomic_block
        if self.error is not None:
            raise self.error
        return super().publish(cluster, channel, message)


def recorded() -> list[dict[str, list[str | None]]]:
    return list(AuditEntry.objects.filter(verb=AuditVerb.PUBLISHED).values_list("changes", flat=True))


def test_no_transaction_is_open_while_it_is_sent(shops: Tenants) -> None:
    with BusyPlane() as plane:
        services.send_message(Cluster.objects.get(cluster_id="shop"), "news", "Hello!")
    assert plane.sent == [("shop", "news", "Hello!")]
    assert recorded() == [{"channel": [None, "news"]}]


@pytest.mark.parametrize(("error", "entries"), [(NotPublished("It is off."), 0), (MaybePublished("No answer."), 1)])
def test_the_record_of_a_message_stays_unless_it_was_certainly_not_sent(
    shops: Tenants, error: Exception, entries: int
) -> None:
    with BusyPlane(error), pytest.raises(type(error)):
        services.send_message(Cluster.objects.get(cluster_id="shop"), "news", "Hello!")
    assert len(recorded()) == entries


def test_a_suspended_account_sends_nothing(shops: Tenants) -> None:
    services.suspend_account(Account.objects.get(pk=shops.shop.account))
    with BusyPlane() as plane, pytest.raises(services.Refused):
        services.send_message(Cluster.objects.get(cluster_id="shop"), "news", "Hello!")
    assert (plane.sent, recorded()) == ([], [])
