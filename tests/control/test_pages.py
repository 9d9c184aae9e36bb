"""Every page works in a real browser under its Content-Security-Policy, which forbids everything inline."""

import json
from collections.abc import AsyncIterator, Callable

import pytest

from tests.browser import Page, open_page
from tests.servers import LiveServer

OPERATOR = """
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser("operator@example.com", password="operator-password")
"""
# The longest names, which have no spaces where a browser would break a line.
LONG_NAMES = """
import json
from django.utils import timezone
from accounts import services
from accounts.models import RefusedUsage, Role, UsageUnit
from accounts.tokens import create_token
from accounts.users import User
user = User.objects.create_user("m" * 64 + "@" + "d" * 60 + ".example.com", name="n" * 100)
create_token(user, "t" * 60)
account = services.create_account("a" * 100, user)
cluster = services.create_cluster(account, "c" * 63)
key = services.issue_key(cluster, "k" * 100).key
webhook = services.create_webhook(cluster, "https://example.com/" + "u" * 400, kinds=["client_event"]).webhook
delivery = services.send_test_event(webhook)
services.invite(account, "i" * 64 + "@" + "d" * 60 + ".example.com", Role.OWNER)
hour = timezone.now().replace(minute=0, second=0, microsecond=0)
RefusedUsage.objects.create(unit=UsageUnit.HOUR, start=hour, account_pk=account.pk, reason="origin", refusals=1)
objects = (account, cluster, key, webhook, delivery, user)
print(json.dumps({obj._meta.model_name: obj.pk for obj in objects}))
"""


@pytest.fixture(scope="module")
def service(start: Callable[..., LiveServer]) -> LiveServer:
    server = start("serve")
    server.shell(OPERATOR)
    return server


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with open_page() as page:
        yield page


async def has_no_errors(page: Page) -> bool:
    assert await page.evaluate("violations") == []
    assert page.errors == []
    return True


async def test_the_browser_reports_violations_of_the_policy(page: Page, service: LiveServer) -> None:
    await page.open(service.url("/", scheme="http", host="localhost"))
    await page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.inline = 1'}))"
    )
    await page.wait_for("violations.length")
    assert await page.evaluate("window.inline") is None
    assert await page.evaluate("fetch('http://127.0.0.1:9/').catch(() => 'refused')") == "refused"
    assert [violation[:2] for violation in await page.evaluate("violations")] == [
        ["script-src-elem", "inline"],
        ["connect-src", "http://127.0.0.1:9/"],
    ]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "demo.localhost"])
async def test_the_websocket_tester_connects_to_a_cluster_and_publishes(
    page: Page, service: LiveServer, secrets: dict[str, str], host: str
) -> None:
    await page.open(service.url("/", scheme="http", host=host))
    await page.evaluate("document.getElementById('connect-both').click()")
    await page.wait_for("document.querySelectorAll('.state[data-state=open]').length === 2")
    await page.evaluate(f"document.querySelector('[name=secret]').value = {json.dumps(secrets['demo'])}")
    await page.evaluate("document.getElementById('publish').click()")
    await page.wait_for("[...document.querySelectorAll('.log')].every((log) => log.textContent.includes('Hello from'))")
    assert await has_no_errors(page)


async def test_the_documentation_of_the_rest_api_lists_operations_and_runs_them(
    page: Page, service: LiveServer
) -> None:
    await page.open(service.url("/api/v1/docs/", scheme="http", host="localhost"))
    await page.wait_for("document.querySelectorAll('.opblock').length > 15")
    await page.evaluate("document.querySelector('.opblock-get .opblock-summary-control').click()")
    await page.wait_for("document.querySelector('.try-out__btn')")
    await page.evaluate("document.querySelector('.try-out__btn').click()")
    await page.wait_for("document.querySelector('.execute')")
    await page.evaluate("document.querySelector('.execute').click()")
    await page.wait_for("document.querySelector('.live-responses-table')?.textContent.includes('credentials')")
    # The only error is the answer itself, since nobody is logged in.
    assert [error for error in page.errors if " 401 " not in error] == []
    assert await page.evaluate("violations") == []


@pytest.mark.parametrize(("mode", "is_dark"), [("dark", True), ("light", False)])
async def test_the_documentation_of_the_rest_api_is_dark_if_the_system_is(
    page: Page, service: LiveServer, mode: str, is_dark: bool
) -> None:
    await page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": mode}])
    await page.open(service.url("/api/v1/docs/", scheme="http", host="localhost"))
    await page.wait_for("document.querySelector('.opblock')")
    red = await page.evaluate("+getComputedStyle(document.querySelector('.info .title')).color.match(/\\d+/)[0]")
    assert (red > 128) == is_dark
    assert await has_no_errors(page)


async def log_in(page: Page, service: LiveServer) -> None:
    await page.open(service.url("/admin/", scheme="http", host="localhost"))
    await page.evaluate(
        "Object.assign(document.querySelector('[name=login]'), {value: 'operator@example.com'});"
        "Object.assign(document.querySelector('[name=password]'), {value: 'operator-password'});"
        "document.querySelector('[name=password]').form.requestSubmit()"
    )
    await page.wait_for("location.pathname === '/admin/' && document.readyState === 'complete'")


async def test_the_admin_works(page: Page, service: LiveServer) -> None:
    def url(path: str) -> str:
        return service.url(f"/admin/{path}", scheme="http", host="localhost")

    await log_in(page, service)
    for path in ("", "accounts/account/", "accounts/apikey/", "accounts/auditentry/", "accounts/user/add/"):
        await page.open(url(path))
        assert await has_no_errors(page)
    # The admin's scripts add rows to inlines and complete what a user types.
    await page.open(url("accounts/account/add/"))
    await page.evaluate("document.querySelector('#memberships-group .add-row a').click()")
    await page.wait_for("document.querySelector('#memberships-0 .select2-selection')")
    await page.evaluate("void django.jQuery('#id_memberships-0-user').select2('open')")
    await page.wait_for("document.querySelector('.select2-results')?.textContent.includes('stranger')")
    assert await has_no_errors(page)
    await page.open(url("accounts/cluster/"))
    await page.evaluate("document.querySelector('.field-cluster_id a').click()")
    await page.wait_for("document.querySelector('.breadcrumbs') && document.querySelector('#keys-group .add-row a')")
    await page.evaluate("document.querySelector('#keys-group .add-row a').click()")
    await page.evaluate(
        "document.querySelector('#keys-group .dynamic-keys:not(.has_original) [name$=-label]').value = 'new'"
    )
    await page.evaluate("document.querySelector('[name=_save]').click()")
    await page.wait_for("document.body.textContent.includes('Copy this secret now')")
    assert await has_no_errors(page)


@pytest.mark.parametrize("width", [1280, 390])
async def test_a_new_secret_is_shown_whole_and_can_be_copied(page: Page, service: LiveServer, width: int) -> None:
    await page.send("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    origin = service.url("", scheme="http", host="localhost")
    await page.send("Page.bringToFront")
    await page.allow_clipboard(origin)
    await log_in(page, service)
    await page.open(f"{origin}/admin/accounts/apikey/")
    await page.evaluate("document.querySelector('.field-label a').click()")
    await page.wait_for("document.querySelector('a[href$=\"/rotate/\"]')")
    await page.evaluate("document.querySelector('a[href$=\"/rotate/\"]').click()")
    await page.wait_for("document.querySelector('[name=confirmed]')")
    await page.evaluate("document.querySelector('[name=confirmed]').click()")
    await page.wait_for("document.querySelectorAll('.secret button.copy').length === 2")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await page.evaluate(
        "[...document.querySelectorAll('.secret dd')].every(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)"
    )
    await page.click("document.querySelectorAll('.secret button.copy')[1]")
    await page.wait_for("document.querySelectorAll('.secret button.copy')[1].textContent === 'Copied'")
    secret = await page.evaluate("document.querySelectorAll('.secret code')[1].textContent")
    assert len(secret) == 60
    assert await page.evaluate("navigator.clipboard.readText()") == secret
    await page.evaluate("location.reload()")
    await page.wait_for("document.body.textContent.includes('shown only once')")
    assert secret not in await page.evaluate("document.body.textContent")
    assert await has_no_errors(page)


ROWS_OF_SETTINGS = """
(() => {
  const fields = [...document.querySelectorAll(".settings > label")].map((label) => label.getBoundingClientRect());
  const rows = Object.groupBy(fields, ({ top }) => Math.round(top));
  const end = Math.round(document.querySelector(".settings").getBoundingClientRect().right);
  return Object.values(rows).map((row) => [row.length, Math.round(row.at(-1).right) === end]);
})()
"""


@pytest.mark.parametrize(("width", "rows"), [(1280, [4]), (390, [1, 2, 1])])
async def test_the_settings_of_the_tester_fill_their_rows_and_the_api_key_fits_a_wide_page(
    page: Page, service: LiveServer, width: int, rows: list[int]
) -> None:
    await page.send("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    await page.open(service.url("/", scheme="http", host="localhost"))
    assert await page.evaluate(ROWS_OF_SETTINGS) == [[number, True] for number in rows]
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if width == 1280:
        key = "document.querySelector('[name=api_key]')"
        await page.evaluate(f"{key}.value = 'W'.repeat(60)")
        assert await page.evaluate(f"{key}.scrollWidth <= {key}.clientWidth")


async def show(page: Page, service: LiveServer, path: str, width: int) -> None:
    await page.send("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    await page.open(service.url(f"/admin/{path}", scheme="http", host="localhost"))


@pytest.fixture(scope="module")
def long_names(service: LiveServer) -> dict[str, int]:
    """The primary keys of objects with long names, by model."""
    return dict(json.loads(service.shell(LONG_NAMES)))


LISTS = ["account", "cluster", "apikey", "auditentry", "webhook", "webhookdelivery", "user", "invitation", "apitoken"]


async def test_lists_with_the_longest_names_fit_a_screen_of_1280_pixels(
    page: Page, service: LiveServer, long_names: dict[str, int]
) -> None:
    await log_in(page, service)
    for name in LISTS:
        await show(page, service, f"accounts/{name}/", 1280)
        assert await page.evaluate("document.querySelector('#result_list tbody tr') !== null"), name
        assert await page.evaluate("document.documentElement.scrollWidth <= 1280"), name
        assert await page.evaluate(
            "(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)(document.querySelector('.results'))"
        ), name


async def test_no_page_with_the_longest_names_scrolls_sideways(
    page: Page, service: LiveServer, long_names: dict[str, int]
) -> None:
    await log_in(page, service)
    pages = [""]
    for name, pk in long_names.items():
        ends = ["change"] if name == "webhookdelivery" else ["change", "history", "delete"]
        pages += [f"accounts/{name}/{pk}/{end}/" for end in ends]
    operations = {"account": "suspend", "cluster": "disable", "apikey": "rotate", "webhook": "test"}
    pages += [f"accounts/{name}/{long_names[name]}/{operation}/" for name, operation in operations.items()]
    pages += ["accounts/account/busiest/", f"accounts/account/{long_names['account']}/usage/"]
    for path in pages:
        for width in (1280, 390):
            await show(page, service, path, width)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, width)


async def test_buttons_do_not_cover_the_name_of_what_they_change(
    page: Page, service: LiveServer, long_names: dict[str, int]
) -> None:
    await log_in(page, service)
    for name in ("account", "cluster", "apikey", "webhook"):
        await show(page, service, f"accounts/{name}/{long_names[name]}/change/", 1280)
        assert await page.evaluate(
            "document.querySelector('#content > h2').getBoundingClientRect().bottom"
            " <= document.querySelector('.object-tools a').getBoundingClientRect().top"
        ), name


async def test_the_accounts_of_the_last_refusals_can_be_read_on_a_phone(
    page: Page, service: LiveServer, long_names: dict[str, int]
) -> None:
    await log_in(page, service)
    await show(page, service, "", 390)
    assert await page.evaluate("document.querySelector('.overview tbody th').getBoundingClientRect().width > 100")
