"""People sign up, log in and protect their log-in, in a real browser, with a real mail server."""

from collections.abc import Callable, Iterator

import pytest

from tests.console.browsing import WIDTHS, Console, Service
from tests.console.conftest import add_tenants
from tests.console.mailbox import Mailbox
from tests.console.second_factors import add_authenticator, totp
from tests.servers import LiveServer

PASSWORD, NEW_PASSWORD = "correct-horse-battery", "staple-correct-horse"


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def service(start: Callable[..., LiveServer], mailbox: Mailbox) -> Iterator[Service]:
    """A server at which everybody can sign up."""
    with add_tenants(start("serve", SIGN_UP="open", EMAIL_URL=mailbox.url, API_LOGIN_RATE="100/min")) as service:
        yield service


async def sign_up(console: Console, mailbox: Mailbox, email: str) -> None:
    await console.open("/console/you/sign-up/")
    await console.check()
    await console.fill("email", email)
    await console.fill("password1", PASSWORD)
    await console.click("Sign up")
    await console.wait_for_text("Look into your mailbox")
    await console.check()
    await console.page.open(await mailbox.next_link(email))
    await console.check()
    await console.click("Yes, go on")
    await in_an_account(console)


async def in_an_account(console: Console) -> None:
    await console.page.wait_for(
        "/^\\/console\\/[0-9]+\\//.test(location.pathname) && document.readyState === 'complete'"
    )


async def log_in(console: Console, email: str, password: str = PASSWORD) -> None:
    await console.open("/console/you/login/")
    await console.check()
    await console.fill("login", email)
    await console.fill("password", password)
    await console.click("Log in")


async def log_out(console: Console) -> None:
    await console.open("/console/you/security/")
    await console.page.evaluate("document.querySelector('.side form button').form.requestSubmit()")
    await console.page.wait_for("location.pathname === '/console/you/login/' && document.readyState === 'complete'")


async def confirm(console: Console) -> None:
    """Enter the password again, before changing how one logs in."""
    await console.wait_for_text("Enter your password to go on")
    await console.check()
    await console.fill("password", PASSWORD)
    await console.click("Continue")


async def add_app(console: Console) -> tuple[str, list[str]]:
    """Set up an authenticator app, and return its key and the recovery codes."""
    await console.open("/console/you/security/")
    await console.check()
    await console.click("Set up an authenticator app")
    await confirm(console)
    await console.wait_for_text("Scan the picture")
    await console.check()
    secret = await console.text("#totp-key")
    await console.fill("code", totp(secret))
    await console.click("Add the app")
    await console.wait_for_text("Store these codes now")
    await console.check()
    return secret, (await console.text("#recovery-codes")).split()


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_person_signs_up_and_has_an_account(console: Console, mailbox: Mailbox, width: int) -> None:
    await console.resize(width)
    await sign_up(console, mailbox, f"dev-{width}@example.com")
    assert f"dev-{width}" in await console.html()
    await log_out(console)
    await log_in(console, f"dev-{width}@example.com", "wrong")
    await console.wait_for_text("The e-mail address or the password is wrong.")
    await console.check()
    await log_in(console, f"dev-{width}@example.com")
    await in_an_account(console)


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_forgotten_password_is_reset(console: Console, mailbox: Mailbox, width: int) -> None:
    await console.resize(width)
    email = f"forgetful-{width}@example.com"
    await sign_up(console, mailbox, email)
    await log_out(console)
    await console.open("/console/you/password/forgotten/")
    await console.check()
    await console.fill("email", email)
    await console.click("Send the link")
    await console.wait_for_text("If the address is right")
    await console.check()
    await console.page.open(await mailbox.next_link(email))
    await console.check()
    await console.fill("password1", NEW_PASSWORD)
    await console.fill("password2", NEW_PASSWORD)
    await console.click("Change password")
    await console.wait_for_text("Your password was changed")
    assert "Your password was reset." in str((await mailbox.next_mail(email))["Subject"])
    await log_in(console, email)
    await console.wait_for_text("The e-mail address or the password is wrong.")
    await log_in(console, email, NEW_PASSWORD)
    await in_an_account(console)


@pytest.mark.parametrize("width", WIDTHS)
async def test_with_an_authenticator_app_the_password_alone_is_not_enough(
    console: Console, mailbox: Mailbox, width: int
) -> None:
    await console.resize(width)
    email = f"careful-{width}@example.com"
    await sign_up(console, mailbox, email)
    secret, recovery_codes = await add_app(console)
    assert len(set(recovery_codes)) == 10
    await console.open("/console/you/recovery-codes/")
    await console.wait_for_text("The codes have been shown.")
    await console.check()
    await log_out(console)
    await log_in(console, email)
    await console.wait_for_text("Second step")
    await console.check()
    await console.fill("code", "000000")
    await console.click("Log in")
    await console.wait_for_text("The code is wrong or was used already.")
    await console.fill("code", totp(secret))
    await console.click("Log in")
    await in_an_account(console)
    await log_out(console)
    for code, outcome in ((recovery_codes[0], None), (recovery_codes[0], "The code is wrong or was used already.")):
        await log_in(console, email)
        await console.wait_for_text("Second step")
        await console.fill("code", code)
        await console.click("Log in")
        if outcome:
            await console.wait_for_text(outcome)
        else:
            await in_an_account(console)
            await log_out(console)


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_passkey_replaces_the_password(console: Console, mailbox: Mailbox, width: int) -> None:
    await console.resize(width)
    await add_authenticator(console.page)
    email = f"modern-{width}@example.com"
    await sign_up(console, mailbox, email)
    await console.open("/console/you/security/")
    await console.click("Add a passkey")
    await confirm(console)
    await console.wait_for_text("With a passkey you log in")
    await console.check()
    await console.fill("name", "Laptop")
    await console.click("Add passkey")
    await console.wait_for_text("Store these codes now")
    await console.open("/console/you/security/")
    assert "Laptop" in await console.text("main")
    await console.check()
    await log_out(console)
    await console.click("Log in with a passkey")
    await in_an_account(console)
    await log_out(console)
    await log_in(console, email)
    await console.wait_for_text("Second step")
    await console.click("Use a passkey")
    await in_an_account(console)
    await console.check()


async def test_people_end_their_other_sessions(console: Console, mailbox: Mailbox) -> None:
    await sign_up(console, mailbox, "sessions@example.com")
    (cookie,) = [
        cookie["value"]
        for cookie in (await console.page.send("Network.getCookies"))["cookies"]
        if cookie["name"] == "sessionid"
    ]
    await console.page.send("Network.clearBrowserCookies")
    await log_in(console, "sessions@example.com")
    await in_an_account(console)
    await console.open("/console/you/security/")
    await console.click("End all other sessions")
    await console.wait_for_text("All other sessions ended.")
    await console.check()
    await console.page.send(
        "Network.setCookie", url=console.service.url(), name="sessionid", value=cookie, httpOnly=True
    )
    await console.open("/console/you/security/")
    assert await console.page.evaluate("location.pathname") == "/console/you/login/"


async def invite(console: Console, mailbox: Mailbox, email: str) -> str:
    """Let the shop's owner invite somebody, and return the link in the mail."""
    await console.log_in("owner")
    await console.open("")
    account = console.service.tenants.shop.account
    status = await console.page.evaluate(
        f"fetch('/api/v1/accounts/{account}/invitations/', {{method: 'POST', "
        "headers: {'Content-Type': 'application/json', 'X-CSRFToken': document.cookie.match(/csrftoken=(\\w+)/)[1]}, "
        f"body: JSON.stringify({{email: '{email}', role: 'developer'}})}}).then(({{status}}) => status)"
    )
    assert status == 201
    await console.page.send("Network.clearBrowserCookies")
    return await mailbox.next_link(email)


@pytest.mark.parametrize("width", WIDTHS)
async def test_an_invited_person_signs_up_and_is_a_member(console: Console, mailbox: Mailbox, width: int) -> None:
    await console.resize(width)
    email = f"invited-{width}@example.com"
    await console.page.open(await invite(console, mailbox, email))
    await console.check()
    await console.click("Sign up")
    await console.wait_for_text("You join “Example Shop” as developer.")
    await console.check()
    await console.fill("password1", PASSWORD)
    await console.click("Sign up")
    await in_an_account(console)
    assert "Example Shop" in await console.text()
    assert mailbox.to(email) == []


@pytest.mark.parametrize("width", WIDTHS)
async def test_an_invited_user_logs_in_and_joins(console: Console, mailbox: Mailbox, width: int) -> None:
    await console.resize(width)
    email = f"member-{width}@example.com"
    await sign_up(console, mailbox, email)
    await console.page.send("Network.clearBrowserCookies")
    link = await invite(console, mailbox, email)
    await console.page.open(link)
    await console.click("Log in")
    await console.wait_for_text("Forgot your password?")
    await console.fill("login", email)
    await console.fill("password", PASSWORD)
    await console.click("Log in")
    await console.wait_for_text("Join Example Shop?")
    await console.check()
    await console.click("Join")
    await in_an_account(console)
    assert "You have joined Example Shop." in await console.text()
    await console.page.open(link)
    await console.wait_for_text("This invitation is not valid any more")
