"""`serve --demo` prints a link that logs its reader in, once, as the owner of the demo tenant."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.core import signing
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from accounts import services
from accounts.demo import DEMO_OWNER
from accounts.demo_links import new_demo_token
from accounts.models import Account, Role
from accounts.users import User
from tests.browser import Page, open_page
from tests.clients import until
from tests.console.test_sign_up import user_of
from tests.servers import LiveServer, environment, free_port, server_command


@pytest.fixture
def demo(db: None) -> str:
    """The path of a new link to the demo tenant."""
    call_command("demo", verbosity=0)
    return f"/console/demo/{new_demo_token()}/"


def test_it_works_once(demo: str) -> None:
    client, second = Client(), Client()
    assert client.get(demo).headers["Location"] == "/console/"
    user = user_of(client)
    assert user is not None
    assert (user.email, user.has_usable_password(), user.is_staff) == (DEMO_OWNER, False, False)
    assert user.memberships.get().role == Role.OWNER
    answer = second.get(demo)
    assert answer.status_code == 403
    assert "not valid any more" in answer.content.decode()
    assert user_of(second) is None


def test_it_works_for_an_hour(demo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    later = (timezone.now() + timedelta(seconds=3601)).timestamp()
    monkeypatch.setattr("django.core.signing.time.time", lambda: later)
    assert Client().get(demo).status_code == 403


def test_a_new_link_works_after_a_log_in(demo: str) -> None:
    Client().get(demo)
    assert Client().get(f"/console/demo/{new_demo_token()}/").status_code == 302


def test_beside_other_accounts_there_is_none_and_a_former_one_does_not_work(demo: str) -> None:
    services.create_account("Acme")
    assert new_demo_token() is None
    assert Client().get(demo).status_code == 403


def test_a_forged_one_does_not_work(demo: str) -> None:
    client = Client()
    owner = User.objects.get(email=DEMO_OWNER)
    for token in ("x", "a:b:c", "\0", signing.dumps([owner.pk, None], salt="other")):
        assert client.get(f"/console/demo/{token}/").status_code == 403
        assert user_of(client) is None


def test_nobody_else_logs_in_as_the_owner(demo: str) -> None:
    client = Client()
    client.post("/console/you/login/", {"login": DEMO_OWNER, "password": ""})
    client.post("/console/you/login/", {"login": DEMO_OWNER, "password": "!"})
    assert user_of(client) is None


def test_a_demo_that_had_no_owner_gets_one(demo: str) -> None:
    User.objects.get(email=DEMO_OWNER).memberships.all()._raw_delete("default")  # type: ignore[attr-defined]
    call_command("demo", verbosity=0)
    assert Account.objects.get().memberships.get().user.email == DEMO_OWNER


class TestOnAServer:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[LiveServer]:
        """A server on a new database, started by the one command of the README."""
        port = free_port()
        server = LiveServer(tmp_path, [*server_command("serve", port, tmp_path, ""), "--demo"], port, kind="serve")
        assert environment(tmp_path)["DATA_DIR"]
        with server.start():
            yield server

    @pytest.fixture
    async def page(self) -> object:
        async with open_page() as page:
            yield page

    async def test_the_printed_link_leads_into_the_console(self, server: LiveServer, page: Page) -> None:
        await until(lambda: "Connect to" in server.log)
        found = re.search(r"http://localhost:[0-9]+/console/demo/\S+", server.log)
        assert found
        await page.open(found[0])
        await page.wait_for("/^\\/console\\/[0-9]+\\//.test(location.pathname)")
        assert DEMO_OWNER in await page.evaluate("document.body.textContent")
        assert page.errors == []
        assert await page.evaluate("violations") == []
        await page.send("Network.clearBrowserCookies")
        await page.open(found[0])
        assert "not valid any more" in await page.evaluate("document.body.textContent")
