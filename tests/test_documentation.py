"""Every link in the documentation leads somewhere, and every block of shell commands can be parsed."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.documentation import PAGES, anchors, code_blocks, without_code
from tests.servers import PROJECT


def name(page: Path) -> str:
    return str(page.relative_to(PROJECT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(<?([^)>\s]+)>?\)", without_code(page)):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_of_shell_commands_can_be_parsed(page: Path) -> None:
    for block in code_blocks(name(page), "bash"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), block
