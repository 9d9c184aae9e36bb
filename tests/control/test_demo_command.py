"""`manage.py demo`: a key that everybody knows is let into no service that others use, unless it is there already."""

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts import services
from accounts.models import Account
from realtime.management.running import announced

pytestmark = pytest.mark.django_db


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    call_command("demo", "--json", *arguments)
    return dict(json.loads(capsys.readouterr().out))


def secret(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    return printed(capsys, *arguments)["secret"]


@pytest.fixture(autouse=True)
def _no_running_server(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path


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


def test_the_url_has_the_port_of_the_running_server_unless_another_is_given(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert printed(capsys)["url"].startswith("ws://localhost:8000/v3/")
    with announced(tmp_path, 9001):
        assert printed(capsys)["url"].startswith("ws://localhost:9001/v3/")
        assert printed(capsys, "--port", "9002")["url"].startswith("ws://localhost:9002/v3/")
