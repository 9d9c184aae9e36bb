"""The walks of an owner through people, activity, settings and tokens, in a real browser."""

import pytest

from tests.console.browsing import WIDTHS, Console

pytestmark = pytest.mark.parametrize("width", WIDTHS)


async def test_an_owner_invites_a_person_changes_a_role_and_sees_both_in_the_activity(
    console: Console, width: int
) -> None:
    await console.resize(width)
    await console.log_in("owner")
    await console.open("people/")
    await console.check()
    await console.click("Invite")
    await console.wait_for_text("They get access")
    await console.check()
    address = f"new-{width}@shop.example"
    await console.fill("email", address)
    await console.click("Invite")
    await console.wait_for_text("Open invitations")
    await console.wait_for_text(address)
    await console.check()
    await console.click(f"Revoke the invitation of {address}")
    await console.wait_for_text("Invitation revoked.")
    await console.click("viewer@shop.example")
    await console.wait_for_text("Save role")
    await console.check()
    await console.click("Remove…")
    await console.wait_for_text("Keep the person")
    await console.check()
    await console.click("Keep the person")
    await console.wait_for_text("Save role")
    await console.fill("role", "developer")
    await console.click("Save role")
    await console.wait_for_text("Role changed.")
    await console.open("activity/")
    await console.wait_for_text("Changed the role of viewer@shop.example from viewer to developer.")
    await console.check()
    await console.open("people/leave/")
    await console.wait_for_text("Make someone else an owner first.")
    await console.check()
