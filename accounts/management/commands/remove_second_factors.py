"""`manage.py remove_second_factors`: let a person in who has lost their authenticator app, passkeys and codes."""

from argparse import ArgumentParser
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authenticator_removed
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts.users import User


class Command(BaseCommand):
    help = "Remove all second factors of a user, so that the password alone is enough to log in."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", help="e-mail address of the user")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["email"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['email']!r}.")
        factors = list(Authenticator.objects.filter(user=user))
        for factor in factors:
            factor.delete()
            authenticator_removed.send(Authenticator, request=None, user=user, authenticator=factor)
        self.stdout.write(f"{len(factors)} removed." if factors else f"{user} has no second factor.")
