"""The control plane: accounts, clusters and API keys, which determine which clients may connect."""

from functools import partial
from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.db import transaction
from django.db.models.signals import post_delete, pre_save

from .signals import announce


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Tenants"
    default = True

    def ready(self) -> None:
        from allauth.account.signals import email_confirmed, password_changed, password_set, user_signed_up
        from allauth.account.signals import user_logged_in as allauth_logged_in
        from allauth.mfa.signals import authenticator_added, authenticator_removed
        from allauth.usersessions.signals import on_password_changed, on_user_logged_in

        from . import checks  # noqa: F401  (registers itself)
        from .sessions import record_session
        from .sign_ups import address_verified, second_factor_added, second_factor_removed, signed_up

        user_signed_up.connect(signed_up)
        email_confirmed.connect(address_verified)
        authenticator_added.connect(second_factor_added)
        authenticator_removed.connect(second_factor_removed)
        # allauth would also record sessions, but only those of its own pages, and fails for odd browsers.
        allauth_logged_in.disconnect(on_user_logged_in)
        for signal in (password_changed, password_set):
            signal.disconnect(on_password_changed)
        # Django sends this signal for every way to log in that begins a session.
        user_logged_in.connect(record_session)

        # These are signals because cascades and bulk deletes remove rows without calling a service. API keys have
        # none, because a single query deletes thousands of them. Each model has its own receiver: with a receiver for
        # all models, bulk deletes of every other table would load their rows first.
        post_delete.connect(_account_deleted, sender=self.get_model("Account"))
        post_delete.connect(_membership_deleted, sender=self.get_model("Membership"))
        post_delete.connect(_cluster_deleted, sender=self.get_model("Cluster"))
        pre_save.connect(_user_saved, sender=self.get_model("User"))


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
