"""`manage.py demo`: a key that everybody knows is let into no service that others use, unless it is there already."""

import json

import pytest
from django.core.management import CommandError, call_command

from accounts import services
from accounts.models import Account

pytestmark = pytest.mark.django_db


def secret(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    call_command("demo", "--json", *arguments)
    return str(json.loads(capsys.readouterr().out)["secret"])


def test_it_is_not_made_beside_other_accounts_unless_it_must(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError, match="--force"):
        call_command("demo")
    assert not Account.objects.exclude(pk=account.pk).exists()
    assert secret(capsys, "--force") == secret(capsys)


def test_it_says_the_same_after_others_have_come(capsys: pytest.CaptureFixture[str]) -> None:
    before = secret(capsys)
    services.create_account("Acme")
    assert secret(capsys) == before
