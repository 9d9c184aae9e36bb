"""What people do in the console, in a real browser: from a new key to its end, wide and narrow."""

import pytest

from tests.clients import channel_path, open_client
from tests.console.browsing import WIDTHS, Console

MANY_KEYS = """
from accounts.models import ApiKey, Cluster
from accounts import services
cluster = services.create_cluster(Cluster.objects.get(cluster_id="shop").account, "tills")
ApiKey.objects.bulk_create(
    ApiKey(cluster=cluster, label=f"Till {number}", secret_ciphertext="x") for number in range(200)
)
services.create_cluster(cluster.account, "empty")
"""


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_key_is_issued_tried_and_revoked_which_closes_its_connections(console: Console, width: int) -> None:
    await console.resize(width)
    await console.log_in("developer")
    await console.open("clusters/shop/keys/new/")
    label = f"Courier app {width}"
    await console.fill("label", label)
    await console.click("Issue key")
    await console.wait_for_text(f"Store the secret of {label} now")
    await console.check()
    secret, url = await console.text("#secret"), await console.page.evaluate("location.href")
    assert len(secret) == 60
    assert f"WS_API_SECRET={secret}" in await console.text("#as-env")
    assert secret not in url
    assert secret not in str(await console.page.send("Network.getCookies"))
    assert not await console.page.evaluate(
        "[...document.querySelectorAll('*')].flatMap(({attributes}) => [...attributes])"
        f".some(({{value}}) => value.includes('{secret}'))"
    )
    await console.page.open(url)
    await console.wait_for_text("It is not shown again.")
    assert secret not in await console.html()

    await console.click(f"Back to {label}")
    await console.wait_for_text("Credentials")
    page = await console.page.evaluate("location.pathname")
    await console.click("Try it")
    # The script of the page fills in what the link names.
    await console.page.wait_for("document.querySelector('[name=cluster]')?.value === 'shop'")
    key = await console.page.evaluate("document.querySelector('[name=api_key]').value")
    assert secret not in await console.page.evaluate("location.href")
    await console.page.evaluate("document.getElementById('connect-both').click()")
    await console.page.wait_for("document.querySelectorAll('.state[data-state=open]').length === 2")
    assert console.page.errors == []

    async with open_client(console.service.server, channel_path("1", key)) as client:
        await console.open(page)
        await console.click("Revoke key…")
        await console.wait_for_text("Revoke and close")
        await console.check()
        await console.page.evaluate("document.querySelector('.danger').click()")
        await console.wait_for_text("Key revoked.")
        assert (await client.ending())[1] == 4001
    await console.check()


@pytest.mark.parametrize("width", WIDTHS)
async def test_the_first_steps_lead_to_a_message_that_arrives(console: Console, width: int) -> None:
    await console.resize(width)
    await console.log_in("owner")
    await console.open("start/")
    await console.wait_for_text("Waiting for your first connection")
    await console.check()
    async with open_client(
        console.service.server, channel_path("hello", console.service.tenants.shop.public_key)
    ) as client:
        # No reload: the page looks by itself.
        await console.wait_for_text("Connected")
        await console.fill("message", f"Hello at {width} pixels!")
        await console.click("Send message")
        await console.wait_for_text("Sent to 1 connection.")
        assert await client.receive() == f"Hello at {width} pixels!"
    assert await console.text("h1") == "Your first message has arrived"
    await console.check()


async def test_two_clicks_on_a_button_send_a_form_once(console: Console) -> None:
    await console.log_in("owner")
    await console.open("clusters/shop/keys/new/")
    await console.fill("label", "Only once")
    button = "document.querySelector('main button[type=submit]')"
    await console.page.evaluate(f"{button}.click(); {button}.click()")
    await console.wait_for_text("Store the secret")
    count = console.service.shell(
        "from accounts.models import ApiKey; print(ApiKey.objects.filter(label='Only once').count())"
    )
    assert count.strip() == "1"


async def test_a_key_is_copied_whole_from_the_list(console: Console) -> None:
    await console.page.send("Page.bringToFront")
    await console.page.allow_clipboard(console.service.url(""))
    await console.log_in("viewer")
    await console.open("clusters/shop/")
    await console.click("Copy the key of Web shop")
    await console.wait_for_text("Copied")
    copied = await console.page.evaluate("navigator.clipboard.readText()")
    assert copied == console.service.tenants.shop.public_key


@pytest.mark.parametrize("width", WIDTHS)
async def test_every_page_fits_the_screen_and_has_no_serious_fault(console: Console, width: int) -> None:
    if width == WIDTHS[0]:
        console.service.shell(MANY_KEYS)
    key = console.service.tenants.shop.key
    await console.log_in("owner")
    for dark in (False, True):
        await console.resize(width, dark=dark)
        for path in (
            *("start/", "clusters/", "new-cluster/", "clusters/shop/", "clusters/shop/?show=revoked"),
            *("clusters/tills/", "clusters/tills/?q=kiosk", "clusters/empty/", "clusters/shop/off/"),
            *("clusters/shop/delete/", "keys/new/", f"keys/{key}/", f"keys/{key}/rotate/", f"keys/{key}/revoke/"),
            *(f"keys/{key}/end-old-secret/", f"keys/{key}/secret/"),
        ):
            await console.open(path)
            await console.check()
    await console.open(f"keys/{key}/")
    await console.fill("label", "")
    await console.fill("max_connections", "many")
    await console.page.evaluate("document.querySelector('main form').noValidate = true")
    await console.click("Save settings")
    await console.wait_for_text("There are 2 problems.")
    await console.check()
