"""The services that change what accounts own. The REST API, the admin and the commands call them and add no rules.

Each service locks the account first, and then checks that everything still exists and that the account is active. It
validates its input, writes the change and its audit entry in one transaction, and announces the change to the data
plane after commit. Deletions of accounts, clusters and members are recorded and announced by signals (see `apps.py`),
once for all that is deleted with them.
"""

from ..locks import Gone, Refused
from .changes import NotAllowed, QuotaReached
from .clusters import create_cluster, delete_cluster, update_cluster
from .demo import DemoTaken, ensure_demo, has_other_accounts
from .invitations import accept_invitation, decline_invitation, invite, revoke_invitation
from .keys import (
    KEY_SETTINGS,
    MAX_OVERLAP,
    MAX_REVOKED_KEYS,
    Conflict,
    IssuedKey,
    KeyRevoked,
    delete_key,
    end_old_secret,
    issue_key,
    revoke_key,
    rotate_secret,
    update_key,
    version_of_settings,
)
from .messages import send_message
from .people import LAST_OWNER, ONLY_OWNER, add_member, check_deactivation, delete_user, remove_member, set_role
from .tenants import (
    MAX_DELETED_PER_DAY,
    check_may_create_account,
    create_account,
    create_own_account,
    delete_account,
    rename_account,
    resume_account,
    set_quota_notices,
    set_quotas,
    suspend_account,
)

__all__ = [
    "KEY_SETTINGS",
    "LAST_OWNER",
    "MAX_DELETED_PER_DAY",
    "MAX_OVERLAP",
    "MAX_REVOKED_KEYS",
    "ONLY_OWNER",
    "Conflict",
    "DemoTaken",
    "Gone",
    "IssuedKey",
    "KeyRevoked",
    "NotAllowed",
    "QuotaReached",
    "Refused",
    "accept_invitation",
    "add_member",
    "check_deactivation",
    "check_may_create_account",
    "create_account",
    "create_cluster",
    "create_own_account",
    "decline_invitation",
    "delete_account",
    "delete_cluster",
    "delete_key",
    "delete_user",
    "end_old_secret",
    "ensure_demo",
    "has_other_accounts",
    "invite",
    "issue_key",
    "remove_member",
    "rename_account",
    "resume_account",
    "revoke_invitation",
    "revoke_key",
    "rotate_secret",
    "send_message",
    "set_quota_notices",
    "set_quotas",
    "set_role",
    "suspend_account",
    "update_cluster",
    "update_key",
    "version_of_settings",
]
