"""`manage.py demo` does not add its publicly known key to a service with other accounts, unless it is forced to."""

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts import services
from accounts.models import Account, Cluster
from realtime.management.running import announced

pytestmark = pytest.mark.django_db


def run_demo(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    call_command("demo", "--json", *arguments)
    return dict(json.loads(capsys.readouterr().out))


def demo_secret(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    return run_demo(capsys, *arguments)["secret"]


@pytest.fixture(autouse=True)
def _no_running_server(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path


def test_beside_other_accounts_the_demo_is_created_only_with_force(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError, match="--force"):
        call_command("demo")
    assert not Account.objects.exclude(pk=account.pk).exists()
    assert demo_secret(capsys, "--force") == demo_secret(capsys)


def test_the_secret_stays_the_same_after_other_accounts_are_created(capsys: pytest.CaptureFixture[str]) -> None:
    before = demo_secret(capsys)
    services.create_account("Acme")
    assert demo_secret(capsys) == before


def test_the_app_id_for_pushers_libraries_is_that_of_the_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(capsys)["app_id"] == str(Cluster.objects.get(cluster_id="demo").pk)


def test_the_url_has_the_port_of_the_running_server_unless_another_is_given(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_demo(capsys)["url"].startswith("ws://localhost:8000/v3/")
    with announced(tmp_path, 9001):
        assert run_demo(capsys)["url"].startswith("ws://localhost:9001/v3/")
        assert run_demo(capsys, "--port", "9002")["url"].startswith("ws://localhost:9002/v3/")
