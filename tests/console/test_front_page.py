"""The front page says what this is, and leads to sign-up, log-in and the console."""

import pytest
from django.test import Client
from pytest_django import Settings

from tests.console.conftest import As

pytestmark = pytest.mark.django_db

SIGN_UP, LOG_IN = "/console/you/sign-up/", "/console/you/login/"


@pytest.mark.parametrize(("sign_up", "leads_there"), [("open", True), ("invited", False), ("closed", False)])
def test_strangers_find_log_in_and_sign_up_if_it_is_open(
    client: Client, settings: Settings, sign_up: str, leads_there: bool
) -> None:
    settings.SIGN_UP = sign_up
    page = client.get("/").content.decode()
    assert LOG_IN in page
    assert (SIGN_UP in page) == leads_there
    assert "/admin/" not in page


def test_people_who_are_logged_in_find_the_console(as_: As) -> None:
    page = as_("viewer").get("/").content.decode()
    assert "Open the console" in page
    assert LOG_IN not in page
    assert "/admin/" not in page


def test_the_operator_names_the_service_and_its_links(admin_client: Client, client: Client, settings: Settings) -> None:
    settings.SITE_NAME = "Acme <Sockets>"
    settings.SUPPORT_URL, settings.TERMS_URL = "https://help.example.com/", "https://example.com/terms"
    page = client.get("/").content.decode()
    assert "<title>Acme &lt;Sockets&gt;</title>" in page
    assert "WebSocket service" not in page
    assert 'href="https://help.example.com/"' in page
    assert 'href="https://example.com/terms"' in page
    assert "Acme &lt;Sockets&gt;" in admin_client.get("/admin/").content.decode()
    settings.SUPPORT_URL = settings.TERMS_URL = ""
    page = client.get("/").content.decode()
    assert ">Support<" not in page
    assert ">Terms<" not in page


def test_without_a_public_tester_only_people_who_are_logged_in_see_it(
    as_: As, client: Client, settings: Settings
) -> None:
    assert "WebSocket tester" in client.get("/").content.decode()
    settings.SHOW_TESTER = False
    page = client.get("/").content.decode()
    assert "WebSocket tester" not in page
    assert "tester.js" not in page
    assert "WebSocket tester" in as_("viewer").get("/").content.decode()
