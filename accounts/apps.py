"""The control plane: accounts, clusters and API keys, which determine which clients may connect."""

from functools import partial
from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.db import transaction
from django.db.models.signals import post_delete, pre_save

from .signals import announce, password_changed


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Tenants"
    default = True

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers itself)

        _follow_logins()
        # These are signals because cascades and bulk deletes remove rows without calling a service. API keys have
        # none, because a single query deletes thousands of them. Each model has its own receiver: with a receiver for
        # all models, bulk deletes of every other table would load their rows first.
        post_delete.connect(_account_deleted, sender=self.get_model("Account"))
        post_delete.connect(_membership_deleted, sender=self.get_model("Membership"))
        post_delete.connect(_cluster_deleted, sender=self.get_model("Cluster"))
        pre_save.connect(_user_saved, sender=self.get_model("User"))


def _follow_logins() -> None:
    """Connect what happens when people sign up, log in, and change how they log in."""
    from allauth.account import signals as account
    from allauth.mfa import signals as mfa
    from allauth.usersessions.signals import on_password_changed, on_user_logged_in

    from . import login_events
    from .sessions import record_session

    account.user_signed_up.connect(login_events.signed_up)
    account.email_confirmed.connect(login_events.address_verified)
    mfa.authenticator_added.connect(login_events.second_factor_added)
    mfa.authenticator_removed.connect(login_events.second_factor_removed)
    password_changed.connect(login_events.password_changed)
    # Django sends this signal for every way to log in that begins a session.
    user_logged_in.connect(record_session)
    # allauth would also record sessions, but only those of its own pages, and fails for odd browsers.
    account.user_logged_in.disconnect(on_user_logged_in)
    account.password_changed.disconnect(on_password_changed)
    account.password_set.disconnect(on_password_changed)


def _account_deleted(instance: Any, **_: Any) -> None:
    from .usage_history import forget_usage

    _record_deletion(instance)
    announce(account_id=instance.pk)
    # Afterwards, in small steps: there may be very many rows, to which nodes add meanwhile.
    transaction.on_commit(partial(forget_usage, instance.pk), robust=True)


def _membership_deleted(instance: Any, origin: Any, **_: Any) -> None:
    if not _deletes_an_account(origin):
        _record_deletion(instance)


def _cluster_deleted(instance: Any, origin: Any, **_: Any) -> None:
    if not _deletes_an_account(origin):
        _record_deletion(instance)
        announce(cluster_pk=instance.pk)


def _user_saved(instance: Any, **_: Any) -> None:
    from .services import check_deactivation

    check_deactivation(instance)


def _deletes_an_account(origin: Any) -> bool:
    """Return whether a deletion began with an account, which is then recorded and announced for all that it owned."""
    from .models import Account

    return getattr(origin, "model", type(origin)) is Account


def _record_deletion(resource: Any) -> None:
    # Django deletes a resource before its account, so the account can still be read here. Both deletions and this
    # entry are in one transaction.
    from .audit import record_change
    from .models import AuditVerb

    record_change(AuditVerb.DELETED, resource)
