"""The page Usage in a real browser: nothing is blocked, the chart is drawn, and nothing is wider than the screen."""

from collections.abc import Callable

import pytest

from tests.browser import Page, open_page
from tests.servers import LiveServer

FILL = """
from collections import Counter
from datetime import timedelta
from django.test import Client
from django.utils import timezone
from accounts.models import Account, ApiKey
from accounts.usage_counts import Counts, UsedBy
from accounts.usage_history import record_usage
from accounts.users import User
account = Account.objects.get(clusters__cluster_id="demo")
key = ApiKey.objects.filter(cluster__account=account).first()
today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
used = {}
for day in range(30):
    start = today - timedelta(days=day)
    used[start, UsedBy(account.pk, key.public_key)] = Counts(messages=1000 + day, refusals=Counter(bad_origin=day))
    used[start, UsedBy(account.pk)] = Counts(deliveries=10**7, delivered_bytes=10**9, peak_connections=400)
record_usage("a", 1, used)
client = Client()
client.force_login(User.objects.get(email="owner@example.com"))
print(account.pk, client.cookies["sessionid"].value)
"""
MEASURES = ("messages", "deliveries", "data", "api-calls", "connections", "refusals")
# The widths of the bars in pixels, and the first number of the axis.
DRAWN = """(() => {
  const [axis, bars] = document.querySelectorAll('.chart svg');
  return [[...bars.querySelectorAll('rect')].map((bar) => bar.getBoundingClientRect().width),
          axis.querySelector('text').textContent];
})()"""


@pytest.fixture(scope="module")
def server(start: Callable[..., LiveServer]) -> LiveServer:
    return start("serve")


@pytest.fixture(scope="module")
def account(server: LiveServer) -> tuple[int, str]:
    """The number of an account with usage, and a session of its owner."""
    number, session = server.shell(FILL).split()
    return int(number), session


async def open_usage(page: Page, server: LiveServer, account: tuple[int, str], width: int, query: str) -> None:
    await page.send(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
    )
    await page.send(
        "Network.setCookie", name="sessionid", value=account[1], url=server.url("", host="localhost", scheme="http")
    )
    await page.open(server.url(f"/console/{account[0]}/usage/{query}", host="localhost", scheme="http"))


@pytest.mark.parametrize("width", [1280, 390, 320])
async def test_the_page_is_drawn_without_errors_and_fits_the_screen(
    server: LiveServer, account: tuple[int, str], width: int
) -> None:
    async with open_page() as page:
        for measure in MEASURES:
            await open_usage(page, server, account, width, f"?measure={measure}&all=1")
            bars, first = await page.evaluate(DRAWN)
            assert (len(bars), min(bars) > 1, first[0]) == (30, True, "0")
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), measure
            assert await page.evaluate("violations") == []
        assert page.errors == []


async def test_a_reader_chooses_a_period_and_a_measure_and_sorts(server: LiveServer, account: tuple[int, str]) -> None:
    async with open_page() as page:
        await open_usage(page, server, account, 1280, "")
        await page.evaluate("document.querySelector('select[name=period]').value = '7-days'")
        await page.click("document.querySelector('.filters button')")
        await page.wait_for("document.querySelectorAll('.chart rect').length === 168")
        await page.click("document.querySelectorAll('.measures a')[5]")
        await page.wait_for("document.querySelector('.measures [aria-current]').textContent.startsWith('Refusals')")
        assert await page.evaluate("new URL(location).searchParams.get('period')") == "7-days"
        await page.click("document.querySelectorAll('thead a')[6]")
        await page.wait_for("document.querySelector('th[aria-sort=descending]').textContent === 'Refusals'")
        assert page.errors == []
