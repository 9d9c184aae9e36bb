"""What the pages of webhooks show and change."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import services
from accounts.console import webhook_deliveries
from accounts.console.sentences import sentence_of
from accounts.models import Account, ApiKey, AuditEntry, Cluster, Webhook, WebhookDelivery
from accounts.webhooks import queue
from accounts.webhooks.client import Answer
from accounts.webhooks.exchange import Result, exchange
from tests.console.conftest import As
from tests.console.pages import page, send

pytestmark = pytest.mark.django_db

URL = "https://api.example.com/hooks/presence?token=hunter2"
NAME = "api.example.com/hooks/presence"
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\u202e"
CHANNELS = ["channel_occupied", "channel_vacated"]


@pytest.fixture
def webhook(cluster: Cluster) -> Webhook:
    return services.create_webhook(cluster, URL, kinds=CHANNELS, headers={"X-Mine": "of-mine"}).webhook


def deliver(webhook: Webhook, *events: dict[str, Any], answers: tuple[Answer, ...] = ()) -> WebhookDelivery:
    """Add a delivery, and note the answers to its attempts."""
    events = events or ({"name": "channel_vacated", "channel": "orders-5477", "protocol": "v3"},)
    (pk,) = queue.add([queue.NewDelivery.of(webhook.pk, events)])
    for answer in answers:
        attempt(webhook, pk, answer)
    webhook.refresh_from_db()
    return WebhookDelivery.objects.get(pk=pk)


def attempt(webhook: Webhook, pk: int, answer: Answer) -> None:
    """Let a sender take only this delivery, and get an answer."""
    now = timezone.now()
    WebhookDelivery.objects.filter(pk=pk).update(next_at=now, lease="")
    Webhook.objects.filter(pk=webhook.pk).update(due_at=now, probe_at=None)
    (task,) = [task for task in exchange([], []).tasks if task.delivery_pk == pk]
    exchange([Result(task, timezone.now(), answer)], None)


def path(webhook: Webhook, rest: str = "") -> str:
    return f"webhooks/{webhook.pk}/{rest}"


def edit(client: Client, account: Account, webhook: Webhook, **values: Any) -> str:
    """Send the form of a webhook's settings as it is now, with these values, and return the page that follows."""
    version = version_in(page(client, account, path(webhook, "edit/")))
    return send(client, account, path(webhook, "edit/"), **values, version=version)


def version_in(shown: str) -> str:
    found = re.search(r'name="version" value="(\w+)"', shown)
    assert found
    return found[1]


def form(**values: Any) -> dict[str, Any]:
    return {"url": URL, "cluster": "shop", "kinds": CHANNELS, "enabled": "on", **values}


def test_the_navigation_leads_to_webhooks_and_says_what_they_are(owner: Client, account: Account) -> None:
    shown = page(owner, account, "webhooks/")
    assert f'<a href="/console/{account.pk}/webhooks/" aria-current="page">Webhooks</a>' in shown
    assert (
        "No webhooks yet</h2><p>A webhook tells your own server when channels become occupied or vacated and when "
        "members join or leave." in shown
    )
    assert "Add webhook" in shown


def test_a_new_webhook_leads_to_its_secret_which_is_shown_once(
    owner: Client, account: Account, cluster: Cluster, key: ApiKey
) -> None:
    values = form(
        channel_prefix="orders-",
        batches="on",
        signing_key=key.public_key,
        headers="Authorization: Bearer abc\n\n X-Shop :  7 ",
    )
    shown = send(owner, account, "webhooks/new/", **values)
    webhook = Webhook.objects.get()
    assert (webhook.url, webhook.cluster, webhook.kinds) == (URL, cluster, CHANNELS)
    assert (webhook.channel_prefix, webhook.batches, webhook.signing_key) == ("orders-", True, key.public_key)
    assert services.headers_of(webhook) == {"Authorization": "Bearer abc", "X-Shop": "7"}
    assert webhook.enabled
    assert "Webhook added." in shown
    assert f"<h1>Store the secret of {NAME} now</h1>" in shown
    assert len(re.findall(r"whsec_[A-Za-z0-9+/=]{44}", shown)) == 1
    again = page(owner, account, path(webhook, "secret/"))
    assert "whsec_" not in again
    assert "It is not shown again. If you did not store it, rotate the secret." in again


def test_a_webhook_can_be_added_switched_off(owner: Client, account: Account) -> None:
    send(owner, account, "webhooks/new/", **{**form(), "enabled": ""})
    assert not Webhook.objects.get().enabled


@pytest.mark.parametrize(
    ("values", "field", "sentence"),
    [
        ({"url": ""}, "url", "Enter a URL."),
        ({"url": "https://10.0.0.1/"}, "url", "Webhooks can only be sent to public addresses."),
        ({"url": "http://example.com/"}, "url", "Enter a URL that begins with https://."),
        ({"kinds": []}, "kinds", "Choose at least one kind of event."),
        ({"kinds": [], "url": "shop"}, "url", "Enter a URL that begins with https://."),
        ({"channel_prefix": "a b"}, "channel_prefix", "Channel IDs have letters, digits and any of -_/=@,.;# only."),
        ({"headers": "Authorization"}, "headers", "Write each header on a line of its own, as “Name: value”."),
        ({"headers": "X-A: 1\nx-a: 2"}, "headers", "Enter each header once."),
        ({"headers": "Host: example.com"}, "headers", "The header Host is set by this service."),
    ],
)
def test_what_is_not_possible_is_explained_at_its_field(
    owner: Client, account: Account, values: dict[str, Any], field: str, sentence: str
) -> None:
    shown = send(owner, account, "webhooks/new/", **form(**values))
    assert f'<a href="#id_{field}">{sentence}' in shown
    assert not Webhook.objects.exists()


def test_an_account_with_as_many_webhooks_as_it_may_have_is_told_what_to_do(
    owner: Client, account: Account, webhook: Webhook
) -> None:
    services.set_quotas(account, max_webhooks=1)
    shown = send(owner, account, "webhooks/new/", **form())
    assert "You have 1 of 1 webhooks. Delete one, or ask for more." in shown


def test_an_account_without_clusters_creates_one_first(owner: Client, account: Account, cluster: Cluster) -> None:
    services.delete_cluster(cluster)
    response = owner.get(f"/console/{account.pk}/webhooks/new/")
    assert response.headers["location"] == f"/console/{account.pk}/new-cluster/"


def test_with_several_clusters_the_form_asks_for_one_and_its_keys_sign(
    owner: Client, account: Account, key: ApiKey
) -> None:
    other = services.issue_key(services.create_cluster(account, "warehouse"), "Robots").key
    shown = page(owner, account, "webhooks/new/?cluster=warehouse")
    assert '<option value="warehouse" selected>' in shown
    assert '<optgroup label="shop">' in shown
    refused = send(owner, account, "webhooks/new/", **form(cluster="shop", signing_key=other.public_key))
    assert "Choose an active API key of the cluster." in refused
    assert not Webhook.objects.exists()


def test_the_list_shows_the_state_of_each_webhook(
    owner: Client, account: Account, cluster: Cluster, webhook: Webhook
) -> None:
    for name in ("failing", "off", "quiet"):
        services.create_webhook(cluster, f"https://{name}.example/", kinds=["client_event"])
    deliver(webhook, answers=(Answer(200, 84),))
    deliver(Webhook.objects.get(url="https://failing.example/"), answers=(Answer(503, 84),))
    services.update_webhook(Webhook.objects.get(url="https://off.example/"), enabled=False)
    shown = page(owner, account, "webhooks/")
    rows = [re.sub(r"<[^>]+>", "|", row) for row in shown.split("<tr")[2:]]
    states = {name: re.search(r"\|(Healthy|Failing|Off)\|", row)[1] for name, row in zip("abcd", rows, strict=True)}  # type: ignore[index]
    assert states == {"a": "Healthy", "b": "Failing", "c": "Off", "d": "Healthy"}
    assert "Channel occupied, channel vacated" in rows[0]
    assert "just now" in rows[0]
    assert "never" in rows[3]
    assert "hunter2" not in shown


def test_a_page_of_the_list_needs_the_same_queries_for_any_number_of_webhooks(
    owner: Client, account: Account, cluster: Cluster, webhook: Webhook
) -> None:
    page(owner, account, "webhooks/")
    with CaptureQueriesContext(connection) as few:
        page(owner, account, "webhooks/")
    for number in range(60):
        row = Webhook.objects.get(pk=webhook.pk)
        row.pk, row.url = None, f"https://{number}.example/"
        row.save()
    with CaptureQueriesContext(connection) as many:
        shown = page(owner, account, "webhooks/")
    assert len(many) == len(few)
    assert "1 to 50 of 61" in shown
    assert "51 to 61 of 61" in page(owner, account, "webhooks/?page=2")


def test_settings_are_changed_and_headers_are_kept_without_being_shown(
    owner: Client, account: Account, webhook: Webhook, key: ApiKey
) -> None:
    shown = page(owner, account, path(webhook, "edit/"))
    assert f'value="{URL}"' in shown
    assert "X-Mine: the values are not shown again." in shown
    assert "of-mine" not in shown
    assert 'name="cluster"' not in shown
    changed = form(url="https://new.example/", kinds=["client_event"], batches="on", signing_key=key.public_key)
    assert "Settings saved." in edit(owner, account, webhook, **changed)
    webhook.refresh_from_db()
    assert (webhook.url, webhook.kinds, webhook.batches) == ("https://new.example/", ["client_event"], True)
    assert services.headers_of(webhook) == {"X-Mine": "of-mine"}
    edit(owner, account, webhook, **changed, headers="X-Other: 1")
    webhook.refresh_from_db()
    assert services.headers_of(webhook) == {"X-Other": "1"}
    edit(owner, account, webhook, **changed, removes_headers="on")
    webhook.refresh_from_db()
    assert services.headers_of(webhook) == {}


def test_two_people_who_change_a_webhook_at_the_same_time_do_not_overwrite_each_other(
    as_: As, account: Account, webhook: Webhook
) -> None:
    owner, developer = as_("owner"), as_("developer")
    first, second = (version_in(page(client, account, path(webhook, "edit/"))) for client in (owner, developer))
    changed = form(url="https://of-the-owner.example/", version=first)
    assert "Settings saved." in send(owner, account, path(webhook, "edit/"), **changed)
    changed = form(url="https://of-the-developer.example/", kinds=CHANNELS, version=second)
    shown = send(developer, account, path(webhook, "edit/"), **changed)
    assert "Someone changed this webhook meanwhile. Check the values and save again." in shown
    assert 'value="https://of-the-developer.example/"' in shown
    assert shown.count(" checked") == len(CHANNELS) + 1
    webhook.refresh_from_db()
    assert webhook.url == "https://of-the-owner.example/"
    assert "Settings saved." in send(
        developer, account, path(webhook, "edit/"), **{**changed, "version": version_in(shown)}
    )
    webhook.refresh_from_db()
    assert webhook.url == "https://of-the-developer.example/"


def test_extra_headers_that_someone_else_has_changed_are_a_conflict_too(
    owner: Client, account: Account, webhook: Webhook
) -> None:
    version = version_in(page(owner, account, path(webhook, "edit/")))
    services.update_webhook(webhook, headers={"X-Other": "1"})
    shown = send(owner, account, path(webhook, "edit/"), **form(headers="X-Mine: 2", version=version))
    assert "Someone changed this webhook meanwhile." in shown
    webhook.refresh_from_db()
    assert services.headers_of(webhook) == {"X-Other": "1"}


def test_a_delivery_that_is_pruned_while_its_page_is_made_is_not_found(
    owner: Client, account: Account, webhook: Webhook
) -> None:
    delivery = deliver(webhook, answers=(Answer(200, 5),))

    def prune(execute: Any, sql: str, *arguments: Any) -> Any:
        if "LENGTH" in sql:  # the last query, for the events of the open delivery
            with connection.cursor() as cursor:
                cursor.cursor.execute("DELETE FROM accounts_webhookdelivery")
        return execute(sql, *arguments)

    with connection.execute_wrapper(prune):
        answer = owner.get(f"/console/{account.pk}/{path(webhook)}?delivery={delivery.pk}")
    assert answer.status_code == 404


def test_a_change_that_is_refused_keeps_the_name_of_the_webhook(
    owner: Client, account: Account, webhook: Webhook
) -> None:
    shown = edit(owner, account, webhook, **form(url="https://192.168.0.1/"))
    assert "Webhooks can only be sent to public addresses." in shown
    assert f"Edit the webhook {NAME}" in shown


def test_the_page_says_what_is_sent_and_who_signs(
    owner: Client, account: Account, webhook: Webhook, key: ApiKey
) -> None:
    shown = page(owner, account, path(webhook))
    assert f"<h1>{NAME}</h1>" in shown
    assert "Channel occupied, channel vacated" in shown
    assert "One event in each request" in shown
    assert "X-Mine" in shown
    assert f'The secret of <a href="/console/{account.pk}/keys/{key.pk}/">Web shop</a>' in shown
    services.revoke_key(key)
    assert "None: the cluster has no active API key" in page(owner, account, path(webhook))
    services.issue_key(webhook.cluster, "Second")
    assert ">Second</a>" in page(owner, account, path(webhook))


def test_rotation_leaves_two_secrets_until_the_old_one_ends(owner: Client, account: Account, webhook: Webhook) -> None:
    assert f"Rotate the secret of “{NAME}”?" in page(owner, account, path(webhook, "rotate/"))
    shown = send(owner, account, path(webhook, "rotate/"), overlap=86400)
    assert "Secret rotated." in shown
    assert "whsec_" in shown
    assert "Two secrets are valid." in page(owner, account, path(webhook))
    assert "ends now in any case" in page(owner, account, path(webhook, "rotate/"))
    assert "Keep both" in page(owner, account, path(webhook, "end-old-secret/"))
    assert "The old secret has ended." in send(owner, account, path(webhook, "end-old-secret/"))
    assert "Two secrets are valid." not in page(owner, account, path(webhook))


def test_another_session_does_not_see_a_new_secret(as_: As, account: Account, webhook: Webhook) -> None:
    as_("owner").post(f"/console/{account.pk}/{path(webhook, 'rotate/')}", {"overlap": 0})
    assert "whsec_" not in page(as_("owner"), account, path(webhook, "secret/"))


def test_switching_off_and_deleting_say_what_becomes_of_waiting_deliveries(
    owner: Client, account: Account, webhook: Webhook
) -> None:
    assert "stays for a day" not in page(owner, account, path(webhook, "off/"))
    assert "Its log is deleted." in page(owner, account, path(webhook, "delete/"))
    deliver(webhook)
    deliver(webhook)
    asked = page(owner, account, path(webhook, "off/"))
    assert "<strong>2 waiting deliveries stay</strong> for a day and are sent if you switch it on again." in asked
    asked = page(owner, account, path(webhook, "delete/"))
    assert "Its log and <strong>2 waiting deliveries</strong> are deleted." in asked
    off = send(owner, account, path(webhook, "off/"))
    assert "Webhook switched off." in off
    assert "This webhook is off." in off
    assert "Send test event" not in off
    assert "Webhook switched on." in send(owner, account, path(webhook, "on/"))
    assert "Webhook deleted." in send(owner, account, path(webhook, "delete/"))
    assert not Webhook.objects.exists()


def test_deleting_a_cluster_says_that_its_webhooks_go_too(owner: Client, account: Account, webhook: Webhook) -> None:
    assert "to delete it with its 1 active key and 1 webhook." in page(owner, account, "clusters/shop/delete/")


def test_an_endpoint_that_fails_says_since_when_and_what_follows(
    owner: Client, account: Account, webhook: Webhook
) -> None:
    deliver(webhook, answers=(Answer(503, 1),))
    shown = page(owner, account, path(webhook))
    assert "The last attempt has failed." in shown
    assert "Your server answered 503." in shown
    deliver(webhook, answers=(Answer(None, 1, error="Cannot connect."),) * 4)
    shown = page(owner, account, path(webhook))
    assert "Failing" in shown
    assert "This endpoint has failed since" in shown
    assert "Cannot connect." in shown.partition("banner wait")[2].partition("</div>")[0]
    assert "The server tries it once a minute." in shown
    assert "2 deliveries are waiting" in shown


def test_an_endpoint_that_was_switched_off_says_why_and_how_to_go_on(
    owner: Client, as_: As, account: Account, webhook: Webhook
) -> None:
    delivery = deliver(webhook, answers=(Answer(410, 1),))
    deliver_later = WebhookDelivery.objects.create(
        webhook=webhook, message_id="msg_waiting", events="[]", size=2, in_order=True, next_at=timezone.now()
    )
    shown = page(owner, account, path(webhook))
    assert "The server has switched it off. Your server answered 410 Gone." in shown
    assert "1 waiting delivery stays for a day and is sent when it is switched on again." in shown
    assert "Owners and developers can switch it on." in page(as_("viewer"), account, path(webhook))
    assert "Webhook switched on." in send(owner, account, path(webhook, "on/"))
    deliver_later.refresh_from_db()
    assert deliver_later.state == "waiting"
    assert "Send failed again…" in page(owner, account, path(webhook))
    assert delivery.state == "failed"


def test_the_overview_names_webhooks_that_need_attention(owner: Client, account: Account, webhook: Webhook) -> None:
    owner.post(f"/console/{account.pk}/start/hide/")
    deliver(webhook, answers=(Answer(503, 1),) * 4)
    assert NAME not in page(owner, account, "")
    deliver(webhook, answers=(Answer(503, 1),))
    assert f'<strong>Webhook fails</strong>: <a href="/console/{account.pk}/webhooks/{webhook.pk}/">{NAME}</a>' in page(
        owner, account, ""
    )
    deliver(webhook, answers=(Answer(410, 1),))
    shown = page(owner, account, "")
    assert "<strong>Webhook was switched off</strong>" in shown
    assert "Your server answered 410 Gone. Fix your server, then switch the webhook on." in shown
    services.update_webhook(webhook, enabled=False)
    services.update_webhook(webhook, enabled=True)
    assert NAME not in page(owner, account, "")


def test_the_log_names_the_events_of_each_delivery(owner: Client, account: Account, webhook: Webhook) -> None:
    occupied = {"name": "channel_occupied", "channel": "orders-1"}
    deliver(webhook, {"name": "channel_vacated", "channel": "orders-5477"}, answers=(Answer(200, 84),))
    deliver(webhook, occupied, occupied, occupied)
    deliver(webhook, occupied, {"name": "channel_occupied", "channel": "orders-2"})
    deliver(webhook, {"name": "client_event", "channel": "chat", "data": "x" * 200_000})
    deliver(webhook, *[{"name": "client_event", "channel": "chat", "data": "x" * 9_000}] * 100)
    services.send_test_event(webhook)
    shown = page(owner, account, path(webhook))
    names = re.findall(r'data-label="Events">([^<]*)<', shown)
    assert names == [
        *("Test event", "100 events", "Client message, chat", "2 events in 2 channels", "3 events in orders-1"),
        "Channel vacated, orders-5477",
    ]
    assert "84 ms" in shown
    assert "Showing 6 of 6." in shown


def test_a_delivery_opens_below_itself_with_its_attempts(owner: Client, account: Account, webhook: Webhook) -> None:
    late = Answer(None, 10_000, error="No answer within 10 s.")
    delivery = deliver(webhook, answers=(Answer(503, 212, text=HOSTILE), late))
    response = owner.get(f"/console/{account.pk}/{path(webhook)}?delivery={delivery.pk}")
    source = response.content.decode()
    assert "<script>alert" not in source
    assert "&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in source
    shown = page(owner, account, path(webhook, f"?delivery={delivery.pk}"))
    assert re.findall(r'"state bad">([^<]+)', shown) == ["No answer within 10 s", "503"]
    assert "10,000 ms" in shown
    assert '    {"name": "channel_vacated", "channel": "orders-5477", "protocol": "v3"}' in shown
    assert delivery.message_id in shown
    assert "Next attempt:" in shown


def test_a_huge_body_is_shown_in_part(owner: Client, account: Account, webhook: Webhook) -> None:
    delivery = deliver(webhook, {"name": "client_event", "channel": "chat", "data": "x" * 200_000})
    shown = page(owner, account, path(webhook, f"?delivery={delivery.pk}"))
    assert "Request body, first 64 KiB" in shown
    assert len(shown) < 100_000


def test_viewers_see_deliveries_without_bodies_answers_and_the_query(
    as_: As, account: Account, webhook: Webhook
) -> None:
    delivery = deliver(webhook, answers=(Answer(500, 3, text="an answer"),))
    shown = page(as_("viewer"), account, path(webhook, f"?delivery={delivery.pk}"))
    assert "Owners and developers can see the request body and the answer." in shown
    assert "Channel vacated, orders-5477" in shown
    for hidden in ("an answer", '"protocol"', "hunter2", "Send again now", "Send test event", "Rotate", "Delete"):
        assert hidden not in shown, hidden
    assert "hunter2" in page(as_("developer"), account, path(webhook))


def test_the_log_is_filtered_and_paged(owner: Client, account: Account, webhook: Webhook) -> None:
    deliveries = [deliver(webhook) for _ in range(120)]
    WebhookDelivery.objects.filter(pk__in=[row.pk for row in deliveries[:3]]).update(state="failed")
    shown = page(owner, account, path(webhook))
    assert 'Waiting <span class="num">117</span>' in shown
    assert 'Failed <span class="num">3</span>' in shown
    assert "Showing 50 of 120." in shown
    older = re.search(r'href="\?([^"#]+)#deliveries">Older', shown)
    assert older is not None
    second = page(owner, account, path(webhook, f"?{older[1]}"))
    assert ">Newest</a>" in second
    assert f"?before={deliveries[70].pk}&delivery={deliveries[69].pk}#deliveries" in second
    failed = page(owner, account, path(webhook, "?show=failed"))
    assert "Showing 3 of 3." in failed
    # A delivery is found on whichever page and under whichever tab it is.
    opened = page(owner, account, path(webhook, f"?show=waiting&delivery={deliveries[0].pk}"))
    assert deliveries[0].message_id in opened
    assert "No delivery has failed" not in opened


@pytest.mark.parametrize("query", ["delivery=x", "delivery=99999999999999999999", "delivery=123456", "delivery=-1"])
def test_a_delivery_that_does_not_exist_is_not_found(
    owner: Client, account: Account, webhook: Webhook, query: str
) -> None:
    assert owner.get(f"/console/{account.pk}/{path(webhook)}?{query}").status_code == 404


def test_nonsense_in_filters_is_ignored(owner: Client, account: Account, webhook: Webhook) -> None:
    assert "No deliveries yet" in page(owner, account, path(webhook, "?show=%00&before=x"))
    assert "No delivery is waiting" in page(owner, account, path(webhook, "?show=waiting"))
    assert "No delivery has failed" in page(owner, account, path(webhook, "?show=failed"))


def test_a_delivery_of_another_tenant_is_not_found(
    owner: Client, account: Account, webhook: Webhook, shops: Any
) -> None:
    stall = Cluster.objects.get(cluster_id="stall")
    theirs = deliver(services.create_webhook(stall, URL, kinds=CHANNELS).webhook)
    assert owner.get(f"/console/{account.pk}/{path(webhook)}?delivery={theirs.pk}").status_code == 404
    result = owner.get(f"/console/{account.pk}/{path(webhook, f'result/{theirs.pk}/')}", follow=True)
    assert "This delivery is no longer in the log." in result.content.decode()
    assert owner.post(f"/console/{account.pk}/{path(webhook, f'redeliver/{theirs.pk}/')}").status_code == 404


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Answer(200, 84), "Your server answered 200 in 84 ms."),
        (Answer(500, 1_204), "Your server answered 500 in 1,204 ms. Any status other than 2xx counts as a failure."),
        (Answer(301, 5), "Redirects are not followed: enter the URL that it redirects to."),
        (Answer(None, 10_000, error="No answer within 10 s."), "Your server did not answer within 10 s."),
        (Answer(None, 3, error="Cannot connect."), "The request failed. Cannot connect."),
    ],
)
def test_a_test_event_comes_back_with_its_result(
    owner: Client, account: Account, webhook: Webhook, answer: Answer, sentence: str
) -> None:
    waiting = owner.post(f"/console/{account.pk}/{path(webhook, 'test/')}").headers["location"]
    looked = owner.get(waiting)
    assert looked.headers["refresh"] == "1"
    assert "Waiting for the answer of your server" in looked.content.decode()
    delivery = webhook.deliveries.get()
    attempt(webhook, delivery.pk, answer)
    assert sentence in owner.get(waiting, follow=True).content.decode()


def waiting_page(client: Client, account: Account, webhook: Webhook, rest: str) -> str:
    """Send something and return the URL that waits for its result."""
    response = client.post(f"/console/{account.pk}/{path(webhook, rest)}")
    url: str = response.headers["location"]
    assert "Waiting for the answer of your server" in client.get(url).content.decode()
    return url


def test_a_request_that_nobody_sends_is_not_waited_for_without_end(
    owner: Client, account: Account, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = deliver(webhook, answers=(Answer(500, 1),) * 4)
    waiting = waiting_page(owner, account, webhook, f"redeliver/{delivery.pk}/")
    late = timezone.now() + webhook_deliveries.RESULT_WAITS
    monkeypatch.setattr(webhook_deliveries.timezone, "now", lambda: late)
    shown = owner.get(waiting, follow=True).content.decode()
    assert "The request was not sent yet. The last request has failed" in shown
    assert "Your server answered 500 in" not in shown


def test_a_request_that_will_not_be_sent_is_not_waited_for(owner: Client, account: Account, webhook: Webhook) -> None:
    waiting = waiting_page(owner, account, webhook, "test/")
    services.update_webhook(webhook, enabled=False)
    assert "The request was not sent." in owner.get(waiting, follow=True).content.decode()
    services.update_webhook(webhook, enabled=True)
    waiting = waiting_page(owner, account, webhook, "test/")
    WebhookDelivery.objects.all().delete()
    assert "This delivery is no longer in the log." in owner.get(waiting, follow=True).content.decode()


def test_a_webhook_that_is_off_sends_no_test_event(owner: Client, account: Account, webhook: Webhook) -> None:
    services.update_webhook(webhook, enabled=False)
    assert "This webhook is off. Switch it on first." in send(owner, account, path(webhook, "test/"))


def test_one_delivery_is_sent_again(owner: Client, account: Account, webhook: Webhook) -> None:
    delivery = deliver(webhook)
    WebhookDelivery.objects.update(state="failed")
    assert "Send again now" in page(owner, account, path(webhook, f"?delivery={delivery.pk}"))
    shown = send(owner, account, path(webhook, f"redeliver/{delivery.pk}/"))
    assert "The delivery is sent again." in shown
    delivery.refresh_from_db()
    assert delivery.state == "waiting"
    assert "already waits" in send(owner, account, path(webhook, f"redeliver/{delivery.pk}/"))


def test_one_delivery_that_is_sent_again_comes_back_with_its_result(
    owner: Client, account: Account, webhook: Webhook
) -> None:
    delivery = deliver(webhook, answers=(Answer(500, 1),) * 4)
    waiting = waiting_page(owner, account, webhook, f"redeliver/{delivery.pk}/")
    attempt(webhook, delivery.pk, Answer(200, 84))
    shown = owner.get(waiting, follow=True).content.decode()
    assert "Your server answered 200 in 84 ms." in shown
    assert delivery.message_id in shown


def test_nonsense_in_what_a_result_is_waited_for_ends_the_waiting(
    owner: Client, account: Account, webhook: Webhook
) -> None:
    delivery = services.send_test_event(webhook)
    for until in ("", "x", "1e999", "-1", "nan", "9" * 18, "9" * 20):
        query = f"?until={until}&after=x"
        response = owner.get(f"/console/{account.pk}/{path(webhook, f'result/{delivery.pk}/')}{query}", follow=True)
        assert response.redirect_chain, query


def test_the_next_attempt_of_a_waiting_delivery_is_made_now(owner: Client, account: Account, webhook: Webhook) -> None:
    delivery = deliver(webhook, answers=(Answer(503, 1),) * 4)
    assert delivery.next_at > timezone.now() + timedelta(seconds=60)
    assert "Send again now" in page(owner, account, path(webhook, f"?delivery={delivery.pk}"))
    shown = send(owner, account, path(webhook, f"redeliver/{delivery.pk}/"))
    assert "The delivery is sent again." in shown
    assert "Send again now" not in page(owner, account, path(webhook, f"?delivery={delivery.pk}"))
    assert [task.delivery_pk for task in exchange([], []).tasks] == [delivery.pk]


def test_failed_deliveries_are_sent_again_since_a_time(owner: Client, account: Account, webhook: Webhook) -> None:
    for days in (5, 2, 1):
        delivery = deliver(webhook)
        created = timezone.now() - timedelta(days=days)
        WebhookDelivery.objects.filter(pk=delivery.pk).update(state="failed", created_at=created)
    assert "Send 3 deliveries again" in page(owner, account, path(webhook, "redeliver/"))
    since = (timezone.now() - timedelta(days=3)).strftime("%Y-%m-%dT%H:%M")
    assert "Send 2 deliveries again" in page(owner, account, path(webhook, f"redeliver/?since={since}"))
    assert "2 deliveries are sent again." in send(owner, account, path(webhook, "redeliver/"), since=since)
    assert webhook.deliveries.filter(state="waiting").count() == 2
    assert "Enter a day and a time" in page(owner, account, path(webhook, "redeliver/?since=x"))
    assert "Enter a day and a time" in send(owner, account, path(webhook, "redeliver/"), since="yesterday")


def test_dropped_events_are_counted(owner: Client, account: Account, webhook: Webhook) -> None:
    queue.count_dropped(webhook.pk, 214)
    assert "214 events were dropped because the queue was full" in page(owner, account, path(webhook))


def test_what_was_done_is_in_the_activity(owner: Client, account: Account, webhook: Webhook, key: ApiKey) -> None:
    thing = f"the webhook https://{NAME} (shop)"
    said = []

    def last() -> str:
        entry = AuditEntry.objects.first()
        assert entry is not None
        said.append(sentence_of(entry))
        return said[-1]

    assert last() == f"Added {thing}."
    services.update_webhook(webhook, kinds=["channel_occupied", "client_event"], signing_key=key.public_key)
    changed = last()
    assert f"Changed {thing}: events: added client message, removed channel vacated; key for Pusher’s" in changed
    assert changed.endswith(f"from the default to “{key.public_key[:8]}…”.")
    services.update_webhook(webhook, headers={"X-New": "secret"})
    assert last() == f"Changed {thing}: extra headers: added X-New, removed X-Mine."
    services.update_webhook(webhook, enabled=False)
    assert last() == f"Switched {thing} off."
    services.update_webhook(webhook, enabled=True)
    assert last() == f"Switched {thing} on."
    services.rotate_webhook_secret(webhook)
    assert last() == f"Rotated the secret of {thing}."
    services.rotate_webhook_secret(webhook, timedelta(days=1))
    assert last().startswith(f"Rotated the secret of {thing}; the old secret ends on ")
    services.end_old_webhook_secret(webhook)
    assert last() == f"Ended the old secret of {thing}."
    delivery = services.send_test_event(webhook)
    assert last() == f"Sent a test event to {thing}."
    WebhookDelivery.objects.update(state="failed")
    services.redeliver(delivery)
    assert last() == f"Sent 1 delivery of {thing} again."
    attempt(webhook, delivery.pk, Answer(410, 1))
    assert last() == f"Switched {thing} off: Your server answered 410 Gone."
    activity = page(owner, account, "activity/")
    assert "this service" in activity
    assert "hunter2" not in activity
    webhook.refresh_from_db()
    services.update_webhook(webhook, url="https://new.example/?token=hunter3")
    assert "hunter" not in last()
    services.delete_webhook(webhook)
    assert last() == "Deleted the webhook https://new.example/ (shop)."
    assert "hunter" not in "".join(said)
