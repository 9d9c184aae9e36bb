"""The frame that all pages of the console share."""

import pytest

from tests.console.browsing import WIDTHS, Console


@pytest.mark.parametrize("width", WIDTHS)
async def test_the_overview_works_in_a_browser(console: Console, width: int) -> None:
    await console.resize(width)
    await console.log_in("owner")
    await console.open("")
    assert "Example Shop" in await console.text()
    await console.check()
