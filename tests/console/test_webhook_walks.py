"""What people do with webhooks, in a real browser, while a real server sends them to a real receiver."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.console.browsing import WIDTHS, Console, Service
from tests.console.conftest import add_tenants
from tests.receivers import Receiver, Reply
from tests.servers import LiveServer
from tests.webhooks import SETTINGS

HOSTILE = b"</pre><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
FILLED = """
import json
from datetime import timedelta
from django.utils import timezone
from accounts import services
from accounts.models import Cluster, Webhook, WebhookDelivery
cluster = Cluster.objects.get(cluster_id="shop")
services.create_cluster(cluster.account, "warehouse")
kinds = ["channel_occupied", "channel_vacated", "client_event"]
long = "https://hooks.example.com/" + "a-long-path/" * 12
filled = services.create_webhook(
    cluster, long, kinds=kinds, channel_prefix="orders-", headers={"X-Mine": "1"}, enabled=False
).webhook
services.rotate_webhook_secret(filled, timedelta(days=1))
now = timezone.now()
answers = [{"at": now.isoformat(), "status": 503, "milliseconds": 212, "error": "", "answer": "<h1>503</h1>" * 40}]
answers.append({**answers[0], "status": None, "milliseconds": 10_000, "error": "No answer within 10 s.", "answer": ""})
event = {"name": "channel_vacated", "channel": "orders-" + "5477" * 50, "protocol": "v3", "sequence": 18}
WebhookDelivery.objects.bulk_create(
    WebhookDelivery(
        webhook=filled, message_id=f"msg_{number}", events=json.dumps([event] * (1 + number % 3)), size=300,
        count=1 + number % 3, in_order=True, next_at=now, attempts=answers,
        state=["waiting", "delivered", "failed", "dropped"][number % 4],
    )
    for number in range(200)
)
because = "Your server answered 410 Gone."
Webhook.objects.filter(pk=filled.pk).update(disabled_because=because, dropped=214, dropped_at=now)
failing = services.create_webhook(cluster, "https://failing.example/", kinds=kinds).webhook
# Nothing is due, so the server does not send it.
Webhook.objects.filter(pk=failing.pk).update(failures=7, failing_since=now, probe_at=now + timedelta(hours=1))
print(json.dumps([filled.pk, failing.pk, filled.deliveries.first().pk]))
"""


@pytest.fixture(scope="module")
def service(start: Callable[..., LiveServer]) -> Iterator[Service]:
    """A running server that may send webhooks to this machine."""
    with add_tenants(start("serve", **SETTINGS)) as service:
        yield service


@pytest.fixture(scope="module")
def many(service: Service) -> tuple[int, int, int]:
    """The primary keys of a webhook that is off and has 200 deliveries, of one that fails, and of a delivery."""
    filled, failing, delivery = json.loads(service.shell(FILLED))
    return filled, failing, delivery


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


async def add_webhook(console: Console, receiver: Receiver, width: int) -> str:
    """Add a webhook in the console, store its secret, and return it. The browser then shows the page of the webhook."""
    await console.resize(width)
    await console.log_in("developer")
    await console.open("webhooks/")
    await console.wait_for_text("A webhook tells your own server")
    await console.check()
    await console.click("Add webhook")
    await console.fill("url", receiver.url)
    await console.page.evaluate("document.getElementById('id_kinds_0').click()")
    await console.fill("headers", "X-Mine: of-mine")
    await console.check()
    await console.page.evaluate("document.querySelector('main .primary').click()")
    await console.wait_for_text("Webhook added.")
    await console.check()
    secret = await console.text("#secret")
    assert secret.startswith("whsec_")
    assert secret not in await console.page.evaluate("location.href")
    await console.click("I have stored the secret")
    await console.wait_for_text("No deliveries yet")
    return secret


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_webhook_is_added_and_tested_and_what_failed_is_sent_again(
    console: Console, receiver: Receiver, width: int
) -> None:
    await add_webhook(console, receiver, width)
    await console.click("Send test event")
    await console.wait_for_text("Your server answered 200 in")
    (got,) = receiver.requests
    assert got.headers["x-mine"] == "of-mine"
    assert [event["name"] for event in got.events] == ["test"]
    assert json.loads(await console.text("#wb")) == json.loads(got.body)
    assert await console.text("#wa") == "taken"
    await console.check()

    receiver.reply = lambda _: Reply(status=410, body=HOSTILE)
    await console.click("Send test event")
    await console.wait_for_text("Your server answered 410 in")
    await console.wait_for_text("The server has switched it off. Your server answered 410 Gone.")
    assert await console.text("#wa") == HOSTILE.decode()
    assert "hacked" not in await console.page.evaluate("document.title")
    await console.check()

    receiver.reply = lambda _: Reply()
    await console.click("Switch on")
    await console.wait_for_text("Webhook switched on.")
    await console.click("Send failed again…")
    await console.wait_for_text("1 delivery has failed")
    await console.check()
    await console.click("Send 1 delivery again")
    await console.wait_for_text("1 delivery is sent again.")
    await console.page.wait_for(
        "document.querySelectorAll('#deliveries .state.good').length === 2 || (location.reload(), false)"
    )
    await console.page.evaluate("document.querySelector('#deliveries a[href*=delivery]').click()")
    await console.click("Send again now")
    await console.wait_for_text("Your server answered 200 in")
    await console.check()
    tested, refused, repeated, repeated_alone = receiver.requests
    assert refused.id == repeated.id == repeated_alone.id != tested.id


@pytest.mark.parametrize("width", WIDTHS)
async def test_the_secret_of_a_webhook_is_rotated_and_the_webhook_deleted(
    console: Console, receiver: Receiver, width: int
) -> None:
    secret = await add_webhook(console, receiver, width)
    await console.click("Rotate secret…")
    await console.wait_for_text("Old secret valid for")
    await console.check()
    await console.click("Rotate secret")
    await console.wait_for_text("Secret rotated.")
    assert await console.text("#secret") not in (secret, "")
    await console.click("I have stored the secret")
    await console.wait_for_text("Two secrets are valid.")
    await console.check()
    await console.click("End the old secret now…")
    await console.click("End the old secret")
    await console.wait_for_text("The old secret has ended.")
    await console.click("Delete webhook…")
    await console.wait_for_text("Its log is deleted.")
    await console.check()
    await console.click("Delete webhook")
    await console.wait_for_text("Webhook deleted.")
    await console.open("activity/")
    await console.wait_for_text(f"Deleted the webhook {receiver.url} (shop).")
    await console.check()


@pytest.mark.parametrize("width", WIDTHS)
async def test_every_page_of_webhooks_fits_the_screen_and_has_no_serious_fault(
    console: Console, many: tuple[int, int, int], width: int
) -> None:
    filled, failing, delivery = many
    paths = [
        f"webhooks/{filled}/{rest}"
        for rest in ("", "edit/", "secret/", "verify/", "rotate/", "end-old-secret/", "off/")
    ]
    paths += [
        f"webhooks/{filled}/{rest}" for rest in ("delete/", "redeliver/", f"?delivery={delivery}", "?show=failed")
    ]
    for role in ("owner", "viewer"):
        await console.log_in(role)
        for dark in (False, True):
            await console.resize(width, dark=dark)
            for path in ("webhooks/", "webhooks/new/", f"webhooks/{failing}/", *paths):
                if role == "owner" or path in ("webhooks/", *paths[:1], *paths[-2:]):
                    await console.open(path)
                    await console.check()
    await console.log_in("owner")
    await console.open("webhooks/new/")
    await console.page.evaluate("document.querySelector('main form').noValidate = true")
    await console.page.evaluate("document.querySelector('main .primary').click()")
    await console.wait_for_text("There are 2 problems.")
    await console.check()
