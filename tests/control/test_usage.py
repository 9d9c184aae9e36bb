"""Usage over time: what nodes send is added once, rolled up, read by the people of the account, and pruned."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts import services, usage_history
from accounts.models import Account, ApiKey, RefusedUsage, Usage, UsageUnit, UsageWriter
from accounts.usage_counts import Counts, UsedBy
from accounts.usage_history import prune_usage, record_usage
from accounts.usage_reports import by_key, last, over_time, span, total
from accounts.users import User
from tests.control.conftest import As

pytestmark = pytest.mark.django_db

INVALID = "Enter a day or a time, such as 2026-11-26 or 2026-11-26T14:00:00Z."
NODE, OTHER_NODE = "a" * 32, "b" * 32


def this_hour() -> datetime:
    return timezone.now().replace(minute=0, second=0, microsecond=0)


def test_an_accounts_figures_are_the_sums_of_its_keys_and_its_own(account: Account, key: ApiKey) -> None:
    second = services.issue_key(key.cluster, "app").key
    hour = this_hour()
    used = {
        (hour, UsedBy(account.pk, key.public_key)): Counts(messages=3, message_bytes=30, peak_connections=4),
        (hour, UsedBy(account.pk, second.public_key)): Counts(messages=2, api_calls=1, peak_connections=5),
        (hour, UsedBy(account.pk)): Counts(deliveries=9, delivered_bytes=90, peak_connections=8),
    }
    record_usage(NODE, 1, used)
    record_usage(OTHER_NODE, 1, {(hour, UsedBy(account.pk)): Counts(deliveries=1, peak_connections=7)})
    for unit in UsageUnit:
        assert total(over_time(account.pk, last(unit, 2)).values()) == Counts(5, 30, 10, 90, 1, 8)
        assert total(over_time(account.pk, last(unit, 2), key.pk).values()) == Counts(3, 30, peak_connections=4)
    assert by_key(account.pk, last(UsageUnit.DAY, 1)) == {
        key.pk: Counts(3, 30, peak_connections=4),
        second.pk: Counts(2, api_calls=1, peak_connections=5),
        0: Counts(deliveries=10, delivered_bytes=90, peak_connections=8),
    }


def test_a_batch_is_added_once_however_often_it_is_sent(account: Account) -> None:
    batch = {(this_hour(), UsedBy(account.pk)): Counts(deliveries=1)}
    for number in (1, 1, 2, 1, 2, 3, 3):
        record_usage(NODE, number, batch)
    assert total(over_time(account.pk, last(UsageUnit.HOUR, 2)).values()).deliveries == 3
    assert UsageWriter.objects.get().batch == 3


def test_a_batch_that_fails_half_way_leaves_nothing(account: Account) -> None:
    too_many: Any = {
        (this_hour(), UsedBy(account.pk)): Counts(deliveries=1, refusals=Counter({"x": 2**70})),
    }
    with pytest.raises(Exception, match=r"(?i)overflow|range|large"):
        record_usage(NODE, 1, too_many)
    assert not Usage.objects.exists()
    record_usage(NODE, 1, {(this_hour(), UsedBy(account.pk)): Counts(deliveries=1)})
    assert Usage.objects.count() == 2


def test_hours_roll_up_to_days_in_utc(account: Account) -> None:
    day = this_hour().replace(hour=0) - timedelta(days=1)
    hours = [day, day + timedelta(hours=23), day + timedelta(hours=24)]
    record_usage(
        NODE,
        1,
        {(hour, UsedBy(account.pk)): Counts(deliveries=1, peak_connections=n) for n, hour in enumerate(hours, 1)},
    )
    found = over_time(account.pk, span(UsageUnit.DAY, day, day + timedelta(days=2)))
    assert found == {
        day: Counts(deliveries=2, peak_connections=2),
        day + timedelta(days=1): Counts(deliveries=1, peak_connections=3),
    }
    by_hour = over_time(account.pk, span(UsageUnit.HOUR, day, day + timedelta(hours=25)))
    assert [counts.deliveries for counts in by_hour.values()] == [1, *[0] * 22, 1, 1]


def test_refusals_count_by_reason_for_the_key_or_the_account_of_the_cluster(account: Account, key: ApiKey) -> None:
    hour = this_hour()
    refused = {
        (hour, UsedBy(account.pk, key.public_key)): Counts(refusals=Counter(bad_origin=2, bad_jwt=1)),
        (hour, UsedBy(cluster_id=key.cluster.cluster_id)): Counts(refusals=Counter(bad_key=4)),
        (hour, UsedBy(cluster_id="unknown")): Counts(refusals=Counter(bad_key=8)),
    }
    record_usage(NODE, 1, refused)
    day = last(UsageUnit.DAY, 1)
    assert total(over_time(account.pk, day).values()).refusals == Counter(bad_origin=2, bad_jwt=1, bad_key=4)
    assert total(over_time(account.pk, day, key.pk).values()).refusals == Counter(bad_origin=2, bad_jwt=1)
    assert by_key(account.pk, day)[0].refusals == Counter(bad_key=4)
    assert RefusedUsage.objects.count() == 6


def test_what_a_deleted_key_has_used_counts_for_the_account(account: Account, key: ApiKey) -> None:
    services.revoke_key(key)
    services.delete_key(key)
    record_usage(NODE, 1, {(this_hour(), UsedBy(account.pk, key.public_key)): Counts(messages=1)})
    assert by_key(account.pk, last(UsageUnit.DAY, 1)) == {0: Counts(messages=1)}


@pytest.mark.django_db(transaction=True)
def test_a_deleted_account_leaves_no_usage_and_gets_none_any_more(account: Account, foreign_key: ApiKey) -> None:
    other = foreign_key.cluster.account
    batch = {(this_hour(), UsedBy(pk)): Counts(deliveries=1) for pk in (account.pk, other.pk)}
    record_usage(NODE, 1, batch)
    pk = account.pk
    services.delete_account(account)
    record_usage(NODE, 2, batch)
    assert not Usage.objects.filter(account_pk=pk).exists()
    assert total(over_time(other.pk, last(UsageUnit.DAY, 1)).values()).deliveries == 2


def test_a_large_batch_is_added_whole(account: Account) -> None:
    start = this_hour() - timedelta(hours=500)
    batch = {(start + timedelta(hours=n), UsedBy(account.pk)): Counts(deliveries=1) for n in range(500)}
    record_usage(NODE, 1, batch)
    record_usage(NODE, 2, batch)
    assert total(over_time(account.pk, span(UsageUnit.HOUR, start, this_hour())).values()).deliveries == 1000


def test_hours_are_kept_for_7_days_and_days_for_13_months(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_history, "_PRUNED_AT_ONCE", 3)
    now = this_hour()
    ages = [timedelta(hours=hours) for hours in (0, 24, 24 * 6, 24 * 8, 24 * 9, 24 * 30, 24 * 395, 24 * 398, 24 * 500)]
    for number, age in enumerate(ages, 1):
        counts = Counts(deliveries=1, refusals=Counter(bad_key=1))
        record_usage(NODE, number, {(now - age, UsedBy(account.pk)): counts})
    UsageWriter.objects.create(writer=OTHER_NODE, written_at=now - timedelta(days=3))
    steps = 0
    while prune_usage():
        steps += 1
    assert steps > 1
    for model in (Usage, RefusedUsage):
        assert model.objects.filter(unit=UsageUnit.HOUR).count() == 3  # type: ignore[attr-defined]
        assert model.objects.filter(unit=UsageUnit.DAY).count() == 7  # type: ignore[attr-defined]
    assert [writer.writer for writer in UsageWriter.objects.all()] == [NODE]


@pytest.fixture
def used(account: Account, key: ApiKey) -> datetime:
    """Use a little on two days; return the first."""
    day = this_hour().replace(hour=0) - timedelta(days=1)
    for number, hour in enumerate((day + timedelta(hours=5), day + timedelta(hours=24)), 1):
        record_usage(
            NODE,
            number,
            {
                (hour, UsedBy(account.pk, key.public_key)): Counts(
                    messages=3, message_bytes=30, api_calls=1, peak_connections=2, refusals=Counter(bad_origin=1)
                ),
                (hour, UsedBy(account.pk)): Counts(deliveries=6, delivered_bytes=60, peak_connections=2),
            },
        )
    return day


def test_the_rest_api_reports_usage_by_day_and_hour(
    as_: As, owner: User, account: Account, key: ApiKey, used: datetime
) -> None:
    path = f"/api/v1/accounts/{account.pk}/usage/"
    answer = as_(owner).get(path).json()
    assert (answer["unit"], len(answer["usage"])) == ("day", 30)
    assert answer["total"] == {
        "messages": 6,
        "message_bytes": 60,
        "deliveries": 12,
        "delivered_bytes": 120,
        "api_calls": 2,
        "peak_connections": 2,
        "refusals": {"bad_origin": 2},
    }
    day = f"{used:%Y-%m-%d}"
    by_hour = as_(owner).get(path, {"unit": "hour", "start": day, "end": f"{day}T06:30:00Z"}).json()
    assert (by_hour["start"], by_hour["end"]) == (f"{day}T00:00:00Z", f"{day}T07:00:00Z")
    assert [part["messages"] for part in by_hour["usage"]] == [0, 0, 0, 0, 0, 3, 0]
    assert by_hour["usage"][5]["start"] == f"{day}T05:00:00Z"
    of_key = as_(owner).get(path, {"start": day, "key": key.public_key}).json()
    assert [(part["messages"], part["deliveries"]) for part in of_key["usage"]] == [(3, None), (3, None)]


@pytest.mark.parametrize(
    ("query", "field", "sentence"),
    [
        ({"unit": "week"}, "unit", "Choose hour or day."),
        ({"start": "yesterday"}, "start", INVALID),
        ({"start": "0001-01-01T00:00:00+14:00"}, "start", INVALID),
        ({"end": "9999-12-31T23:59:59-12:00"}, "end", INVALID),
        ({"end": "9999-12-31"}, "end", "Enter a time between 2000 and 2999."),
        ({"start": "2026-11-26", "end": "2026-11-26"}, "start", "The start must be before the end."),
        ({"start": "2026-01-01", "end": "2028-01-01"}, "start", "Ask for at most 400 days at a time."),
        (
            {"unit": "hour", "start": "2026-11-01", "end": "2026-11-09"},
            "start",
            "Ask for at most 168 hours at a time.",
        ),
        ({"key": "x"}, "key", "The account has no such API key."),
        ({"key": "\0" * 60}, "key", "Null characters are not allowed."),
    ],
)
def test_a_range_that_is_not_valid_is_rejected_with_a_sentence(
    as_: As, owner: User, account: Account, query: dict[str, str], field: str, sentence: str
) -> None:
    answer = as_(owner).get(f"/api/v1/accounts/{account.pk}/usage/", query)
    assert (answer.status_code, answer.json()) == (400, {field: [sentence]})


def test_the_key_of_another_account_is_not_known(as_: As, owner: User, account: Account, foreign_key: ApiKey) -> None:
    answer = as_(owner).get(f"/api/v1/accounts/{account.pk}/usage/", {"key": foreign_key.public_key})
    assert answer.json() == {"key": ["The account has no such API key."]}


def test_times_without_a_zone_are_in_utc(as_: As, owner: User, account: Account, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    answer = as_(owner).get(f"/api/v1/accounts/{account.pk}/usage/", {"start": "2026-11-26", "end": "2026-11-27"})
    assert datetime.fromisoformat(answer.json()["start"]) == datetime(2026, 11, 26, tzinfo=UTC)
