"""The services that create the demo tenant."""

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from .. import crypto
from ..demo import DEMO_ACCOUNT_NAME, DEMO_CLUSTER_ID, DEMO_OWNER
from ..locks import Refused
from ..models import Account, ApiKey, Role
from ..users import User
from .changes import create_recorded
from .clusters import create_cluster
from .keys import IssuedKey, KeyRevoked, issue_key
from .people import add_member


class DemoTaken(Refused):
    """The ID of the demo tenant's cluster belongs to another account."""


def has_other_accounts() -> bool:
    """Return whether there are accounts other than that of the demo tenant."""
    return Account.objects.filter(is_demo=False).exists()


def ensure_demo(public_key: str) -> IssuedKey:
    """Return the key of the demo tenant; create the tenant if it does not exist. Safe for concurrent calls.

    Raises:
        DemoTaken: the cluster ID belongs to another account, which must not get a key that everybody knows.
        KeyRevoked: the key is revoked.
        crypto.DecryptionFailed: the key that encrypted the secret is not in the settings.
    """
    try:
        key, secret = _get_or_create_demo(public_key)
    except ValidationError:  # another process has created it in the meantime
        key, secret = _get_or_create_demo(public_key)
    if key.revoked:
        raise KeyRevoked("The demo key is revoked. To create it again, first delete it in the admin.")
    return IssuedKey(key, secret or crypto.decrypt(key.secret_ciphertext))


@transaction.atomic
def _get_or_create_demo(public_key: str) -> tuple[ApiKey, str | None]:
    """Return the demo key; with its secret if this call has created the key."""
    # A tenant may have used the demo's names, so neither is a proof.
    foreign = Account.objects.filter(is_demo=False)
    in_use = Q(clusters__cluster_id=DEMO_CLUSTER_ID) | Q(clusters__keys__public_key=public_key)
    if foreign.filter(in_use).exists():
        raise DemoTaken(
            f"The cluster {DEMO_CLUSTER_ID!r} belongs to another account, so the demo tenant cannot be created."
        )
    account = Account.objects.filter(is_demo=True).first()
    if account is None:
        account = Account(name=DEMO_ACCOUNT_NAME, is_demo=True)
        create_recorded(account, "name")
    _ensure_owner(account)
    key = ApiKey.objects.select_related("cluster").filter(public_key=public_key).first()
    if key is not None:
        return key, None
    cluster = account.clusters.filter(cluster_id=DEMO_CLUSTER_ID).first() or create_cluster(account, DEMO_CLUSTER_ID)
    return issue_key(cluster, "demo", public_key=public_key)


def _ensure_owner(account: Account) -> None:
    """Give the demo tenant its owner, as whom people can log in only with the link that `serve --demo` prints."""
    if account.suspended or account.memberships.exists():
        return
    owner = User.objects.filter(email=DEMO_OWNER).first() or User.objects.create_user(DEMO_OWNER)
    add_member(account, owner, Role.OWNER)
