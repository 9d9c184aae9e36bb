"""The walks of an owner through people, activity, settings and tokens, in a real browser."""

import pytest

from tests.console.browsing import WIDTHS, Console

pytestmark = pytest.mark.parametrize("width", WIDTHS)


async def test_an_owner_invites_a_person_changes_a_role_and_sees_both_in_the_activity(
    console: Console, width: int
) -> None:
    address = f"new-{width}@shop.example"
    await console.resize(width)
    await console.log_in("owner")
    await console.open("people/")
    await console.check()
    await console.click("Invite")
    await console.wait_for_text("They get access to Example Shop")
    await console.check()
    await console.fill("email", address)
    await console.click("Invite")
    await console.wait_for_text(f"Send this link to {address}")
    await console.check()
    await console.click("I have sent the link")
    await console.wait_for_text("Open invitations")
    await console.check()
    await console.click(f"Revoke the invitation of {address}")
    await console.wait_for_text("Invitation revoked.")
    await console.click("viewer@shop.example")
    await console.wait_for_text("Save role")
    await console.check()
    await console.fill("role", "developer")
    await console.click("Save role")
    await console.wait_for_text("Role changed.")
    await console.click("viewer@shop.example")
    await console.click("Remove…")
    await console.wait_for_text("The person loses access to Example Shop")
    await console.check()
    await console.click("Keep the person")
    await console.wait_for_text("Save role")
    await console.fill("role", "viewer")
    await console.click("Save role")
    await console.wait_for_text("Role changed.")
    await console.open("activity/?thing=member")
    await console.wait_for_text("Changed the role of viewer@shop.example from viewer to developer.")
    await console.check()
    await console.click("Only this: the member viewer@shop.example")
    await console.wait_for_text("Added viewer@shop.example as viewer.")
    assert "Added developer@shop.example" not in await console.text("main")
    await console.open("people/leave/")
    await console.wait_for_text("You are the only owner. Make someone else an owner first.")
    await console.check()


async def test_an_owner_renames_the_account_and_is_asked_for_its_name_to_delete_it(
    console: Console, width: int
) -> None:
    await console.resize(width, dark=True)
    await console.log_in("owner")
    await console.open("settings/")
    await console.check()
    await console.fill("name", "")
    await console.click("Save settings")
    # The browser itself asks for the name.
    assert await console.page.evaluate("document.activeElement.name") == "name"
    for name in ("Renamed Shop", "Example Shop"):
        await console.fill("name", name)
        await console.click("Save settings")
        await console.page.wait_for(f"document.title.includes('{name}') && document.readyState === 'complete'")
        await console.wait_for_text("Settings saved.")
    await console.click("Delete account…")
    await console.wait_for_text("Delete “Example Shop”?")
    await console.check()
    await console.fill("name", "another")
    await console.click("Delete account")
    await console.wait_for_text("Type Example Shop to delete the account.")
    await console.check()
    await console.click("Keep the account")
    await console.wait_for_text("Save settings")


async def test_a_person_creates_copies_and_revokes_a_token(console: Console, width: int) -> None:
    await console.resize(width)
    await console.log_in("developer")
    await console.open("/console/you/tokens/")
    await console.check()
    await console.click("Create token")
    await console.wait_for_text("Tells you what uses this token")
    await console.check()
    await console.fill("name", f"Deployment {width}")
    await console.click("Create token")
    await console.wait_for_text(f"Store the token Deployment {width} now")
    await console.check()
    token = await console.text("#token")
    assert len(token) == 64
    await console.page.evaluate("location.reload()")
    await console.wait_for_text("The token has been shown. It is not shown again.")
    assert token not in await console.html()
    await console.click("Back to the tokens")
    await console.click(f"Revoke Deployment {width}")
    await console.wait_for_text("Token revoked.")
    await console.check()


async def test_the_front_page_leads_into_the_console_and_works_while_nobody_is_logged_in(
    console: Console, width: int
) -> None:
    await console.resize(width)
    await console.open("/")
    await console.wait_for_text("WebSocket tester")
    assert await console.page.evaluate("violations") == []
    assert console.page.errors == []
    assert await console.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await console.click("Log in")
    await console.wait_for_text("Forgot your password?")
    await console.log_in("viewer")
    await console.open("/")
    await console.click("Open the console")
    await console.wait_for_text("Example Shop")
    await console.check()
    await console.open("/console/accounts/")
    await console.check()
