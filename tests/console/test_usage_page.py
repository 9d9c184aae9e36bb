"""The page Usage: its chart, tables and CSV, for every role, and nothing of other accounts."""

import csv
import re
import xml.etree.ElementTree as ET
from collections import Counter
from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts import services
from accounts.console.charts import Bar, Limit, bar_chart, tick_values
from accounts.console.usage import overview_chart
from accounts.models import Account, ApiKey, Role
from accounts.usage_counts import Counts, UsedBy
from accounts.usage_history import record_usage
from accounts.users import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner() -> User:
    return User.objects.create_user("owner@example.com", password="owner-password")


@pytest.fixture
def account(owner: User) -> Account:
    return services.create_account("Example Shop", owner)


@pytest.fixture
def key(account: Account) -> ApiKey:
    return services.issue_key(services.create_cluster(account, "shop"), "Web shop").key


@pytest.fixture
def midnight() -> datetime:
    return timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture
def page(client: Client, owner: User, account: Account) -> str:
    client.force_login(owner)
    return f"/console/{account.pk}/usage/"


@pytest.fixture
def used(account: Account, key: ApiKey, midnight: datetime) -> None:
    yesterday = midnight - timedelta(days=1)
    of_key = UsedBy(account.pk, key.public_key)
    refusals = Counter(bad_origin=3)
    record_usage(
        "a",
        1,
        {
            (yesterday, of_key): Counts(182_402, 10**6, api_calls=7, peak_connections=300, refusals=refusals),
            (midnight, of_key): Counts(5_420_000, 10**8, peak_connections=200),
            (yesterday, UsedBy(account.pk)): Counts(deliveries=2_000_000, delivered_bytes=10**9, peak_connections=412),
            (yesterday, UsedBy(cluster_id="shop")): Counts(refusals=Counter(bad_key=1, from_the_future=1)),
        },
    )


def body(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.usefixtures("used")
def test_tiles_have_the_totals_and_the_tables_have_every_digit(client: Client, page: str) -> None:
    html = body(client, page)
    tiles = re.findall(r"<b(?: title=\"([^\"]*)\")?>([^<]*)</b>", html)
    assert tiles == [
        ("5,602,402", "5.60 M"),
        ("2,000,000", "2.00 M"),
        ("1,000,000,000", "1.00 GB"),
        ("", "7"),
        ("", "412"),
        ("", "5"),
    ]
    assert "182,402" in html
    assert "so far" in html
    assert "Origin not allowed" in html
    assert "close code 4003" in html
    assert "From the future" in html
    assert "Web shop" in html


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize("period", ["7-days", "30-days", "13-months"])
@pytest.mark.parametrize("measure", ["messages", "deliveries", "data", "api-calls", "connections", "refusals"])
def test_every_measure_of_every_period_can_be_seen(client: Client, page: str, period: str, measure: str) -> None:
    html = body(client, f"{page}?period={period}&measure={measure}&sort=-{measure}&all=1")
    assert html.count('aria-current="true"') == 1
    assert html.count("<tr role") > {"7-days": 168, "30-days": 30, "13-months": 396}[period]
    svg = "".join(re.findall(r"<svg.*?</svg>", html, re.S))
    assert "style=" not in html
    assert "<script>" not in html
    assert "NaN" not in svg


@pytest.mark.usefixtures("used")
def test_a_key_shows_its_own_usage_without_what_is_counted_for_the_account(
    client: Client, page: str, key: ApiKey
) -> None:
    html = body(client, f"{page}?key={key.pk}")
    assert "5.60 M" in html
    tiles = re.findall(r"<b[^>]*>([^<]*)</b>", html)
    assert tiles[1:3] == ["–", "–"]
    assert "whole account, not for a single key" in body(client, f"{page}?key={key.pk}&measure=deliveries")


def test_an_account_without_usage_says_so(client: Client, page: str) -> None:
    html = body(client, page)
    assert "No messages in this period." in html
    assert "No refusals in this period." in html
    assert 'role="img"' in html


@pytest.mark.usefixtures("used")
def test_columns_sort_by_links_and_tell_so(client: Client, page: str) -> None:
    html = body(client, f"{page}?sort=messages&all=1")
    assert 'aria-sort="ascending"' in html
    numbers = re.findall(r'data-label="Messages in">([^<]*)<', html)
    assert numbers[-2:] == ["182,402", "5,420,000"]
    assert re.findall(r'data-label="Messages in">([^<]*)<', body(client, page))[:2] == ["5,420,000", "182,402"]


@pytest.mark.parametrize(
    "query", ["?period=x&measure=x&sort=x", "?sort=--start", "?key=", "?period=%00", "?all=%00&measure=%F0%9F%98%80"]
)
def test_parameters_that_are_not_valid_have_their_default(client: Client, page: str, query: str) -> None:
    assert "Last 30 days, by day" in body(client, page + query)


@pytest.mark.parametrize("key", ["x", "0", "-1", "9" * 30, "%00", "²"])
def test_a_key_that_does_not_exist_is_not_found(client: Client, page: str, key: str) -> None:
    assert client.get(f"{page}?key={key}").status_code == 404


def test_a_key_of_another_account_is_not_found(client: Client, page: str, owner: User) -> None:
    other = services.issue_key(services.create_cluster(services.create_account("Other"), "other"), "x").key
    assert client.get(f"{page}?key={other.pk}").status_code == 404


@pytest.mark.usefixtures("used")
def test_csv_has_the_same_numbers_oldest_first(client: Client, page: str, account: Account, midnight: datetime) -> None:
    response = client.get(f"/console/{account.pk}/usage.csv?period=7-days")
    assert response["Content-Disposition"] == f'attachment; filename="usage-{account.pk}-7-days.csv"'
    rows = list(csv.DictReader(response.content.decode().splitlines()))
    assert len(rows) == 168
    assert rows[0]["hour"] < rows[-1]["hour"]
    yesterday = next(row for row in rows if row["hour"] == f"{midnight - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}")
    assert yesterday == {
        "hour": yesterday["hour"],
        "messages": "182402",
        "message_bytes": "1000000",
        "deliveries": "2000000",
        "delivered_bytes": "1000000000",
        "api_calls": "7",
        "peak_connections": "412",
        "refusals": "5",
        "refusals: bad_key": "1",
        "refusals: bad_origin": "3",
        "refusals: from_the_future": "1",
    }


@pytest.mark.usefixtures("used")
def test_csv_of_a_key_leaves_out_what_is_counted_for_the_account(
    client: Client, page: str, account: Account, key: ApiKey
) -> None:
    response = client.get(f"/console/{account.pk}/usage.csv?key={key.pk}")
    last = list(csv.DictReader(response.content.decode().splitlines()))[-1]
    assert (last["messages"], last["deliveries"], last["delivered_bytes"]) == ("5420000", "", "")


@pytest.mark.parametrize("path", ["usage/", "usage.csv"])
@pytest.mark.parametrize(
    ("role", "status"), [(None, 404), (Role.VIEWER, 200), (Role.DEVELOPER, 200), (Role.OWNER, 200), ("nobody", 302)]
)
def test_members_of_every_role_see_it_and_nobody_else(
    client: Client, account: Account, path: str, role: str | None, status: int
) -> None:
    if role != "nobody":
        user = User.objects.create_user("user@example.com")
        client.force_login(user)
        if role:
            services.add_member(account, user, Role(role))
    assert client.get(f"/console/{account.pk}/{path}").status_code == status
    assert client.post(f"/console/{account.pk}/{path}").status_code in (status, 405)


def draw(*values: int, limit: Limit | None = None) -> ET.Element:
    bars = [Bar(str(number), value, number == len(values) - 1, str(number)) for number, value in enumerate(values)]
    svg = bar_chart("x", bars, title="<Title>", description="Words", height=270, write=str, write_tick=str, limit=limit)
    return ET.fromstring(svg)


def test_a_chart_is_an_image_with_a_title_and_a_description() -> None:
    axis, image = draw(1, 5, 3)
    assert axis.attrib["aria-hidden"] == "true"
    assert image.attrib["role"] == "img"
    ids = image.attrib["aria-labelledby"].split()
    assert [image.find(f"*[@id='{name}']").text for name in ids] == ["<Title>", "Words"]  # type: ignore[union-attr]
    bars = image.findall("rect")
    assert [bar.find("title").text for bar in bars] == ["0: 1", "1: 5", "2: 3 so far"]  # type: ignore[union-attr]
    assert [bar.attrib["class"] for bar in bars] == ["bar-of", "bar-of", "so-far"]
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert heights == [45.2, 226, 135.6]


def test_the_quota_is_drawn_if_the_peak_passes_half_of_it() -> None:
    limit = Limit(10, "Quota: 10")
    assert draw(1, 5, limit=limit)[1].find("line[@class='quota']") is None
    high = draw(1, 6, limit=limit)[1]
    assert high.find("line[@class='quota']") is not None
    assert high.find("text[@class='quota-label']").text == "Quota: 10"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("top", "ticks"),
    [
        (1, [0, 1]),
        (4, [0, 1, 2, 3, 4]),
        (5, [0, 2, 4]),
        (250_000, [0, 100_000, 200_000]),
        (999, [0, 200, 400, 600, 800]),
    ],
)
def test_ticks_are_multiples_of_1_2_or_5_powers_of_ten(top: int, ticks: list[int]) -> None:
    assert tick_values(top) == ticks


@pytest.mark.usefixtures("used")
def test_the_overview_has_the_messages_of_30_days(account: Account) -> None:
    context = overview_chart(account)
    assert context["has_usage"]
    description = ET.fromstring(context["chart"])[1].find("desc")
    assert description is not None
    assert description.text is not None
    assert description.text.startswith("Between 0 and 182,402 messages a day. The busiest day was ")
    assert description.text.endswith("Today so far: 5,420,000.")
