"""The packages of the service: what is asked for, what is locked, and why each is there."""

import re
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.servers import PROJECT

REQUIREMENTS = (PROJECT / "requirements.txt").read_text()
LOCK = (PROJECT / "piesite" / "deploy" / "requirements.lock").read_text()
SERVICE = [
    Requirement(line.partition("#")[0])
    for line in REQUIREMENTS.partition("# The tests and checks")[0].splitlines()
    if line and not line.startswith("#")
]
PLATFORMS = [
    {"python_version": minor, "python_full_version": f"{minor}.9", "platform_machine": machine}
    for minor in ("3.11", "3.12", "3.13")
    for machine in ("x86_64", "aarch64")
]
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "implementation_name": "cpython"}


def locked() -> Iterator[tuple[Requirement, list[str]]]:
    """Each package of the lock with its hashes."""
    for entry in re.split(r"^(?=\w)", re.sub(r"^ *#.*\n", "", LOCK, flags=re.MULTILINE), flags=re.MULTILINE):
        if entry:
            first, *options = entry.replace("\\\n", "\n").splitlines()
            yield Requirement(first), [option.strip() for option in options if option.strip()]


def test_every_package_is_there_for_a_reason() -> None:
    lines = [line for line in REQUIREMENTS.splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.search(r"  # \S", line)] == []


def test_the_readme_says_what_each_package_of_the_service_is_for() -> None:
    readme = (PROJECT / "piesite" / "deploy" / "README.md").read_text()
    rows = re.search(r"^\| package \| what for \|\n\| --- \| --- \|\n((?:\|.*\n)+)", readme, re.MULTILINE)
    assert rows is not None
    names = [name for row in rows[1].splitlines() for name in re.findall(r"`([\w-]+)`", row.split("|")[1])]
    assert sorted(names) == sorted(requirement.name for requirement in SERVICE)


@pytest.mark.parametrize("requirement", SERVICE, ids=lambda requirement: requirement.name)
def test_the_lock_has_each_package_of_the_service_once_in_its_range(requirement: Requirement) -> None:
    (pin,) = [pin for pin, _ in locked() if canonicalize_name(pin.name) == canonicalize_name(requirement.name)]
    assert pin.marker is None
    (version,) = [specifier.version for specifier in pin.specifier]
    assert Version(version) in requirement.specifier


def test_the_lock_has_one_version_of_each_package_for_each_platform_and_what_an_extra_adds() -> None:
    for platform in PLATFORMS:
        environment = LINUX | platform
        pins = [pin for pin, _ in locked() if pin.marker is None or pin.marker.evaluate(environment)]
        names = [pin.name for pin in pins]
        assert len(set(names)) == len(names)
        assert {"psycopg-binary", "drf-spectacular-sidecar", "dj-database-url"} <= set(names)


def test_everything_locked_is_one_version_with_hashes_and_comes_from_wherever_pip_is_told() -> None:
    for pin, options in locked():
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), pin
        assert options, pin
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", option) for option in options), pin
    assert "://" not in LOCK
    assert not re.search("^-", LOCK, re.MULTILINE)
