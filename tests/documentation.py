"""The pages of the documentation, and the code blocks in them."""

import re
from pathlib import Path

from tests.servers import PROJECT

FOLDERS = ("", "accounts", "realtime", "piesite/deploy", "tests", "tests/bench")
PAGES = sorted(page for folder in FOLDERS for page in (PROJECT / folder).glob("*.md"))


def code_blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page in a language, in order.

    Args:
        page: its path, relative to the project.
        language: as the block names it, for example `bash`.
    """
    text = (PROJECT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def without_code(page: Path) -> str:
    """Return the text of a page without its code blocks and its inline code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda match: re.sub(r"[^\w .-]", "", match[0]), text)


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
