"""The packages of the service and of its tests: which are required, which are locked, and why each is there."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.servers import PROJECT

PAGE = (PROJECT / "piesite" / "deploy" / "README.md").read_text()
REQUIREMENTS = (PROJECT / "requirements.txt").read_text()
TEST_REQUIREMENTS = (PROJECT / "tests" / "requirements.txt").read_text()
LOCK = (PROJECT / "piesite" / "deploy" / "requirements.lock").read_text()
PLATFORMS = [
    {"python_version": minor, "python_full_version": f"{minor}.9", "platform_machine": machine}
    for minor in ("3.11", "3.12", "3.13")
    for machine in ("x86_64", "aarch64")
]
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "implementation_name": "cpython"}


def required(text: str) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-r ")]


SERVICE = required(REQUIREMENTS.partition("# The test runner")[0])


def locked() -> Iterator[tuple[Requirement, list[str]]]:
    """Each package of the lock with its hashes."""
    for entry in re.split(r"^(?=\w)", re.sub(r"^ *#.*\n", "", LOCK, flags=re.MULTILINE), flags=re.MULTILINE):
        if entry:
            first, *options = entry.replace("\\\n", "\n").splitlines()
            yield Requirement(first), [option.strip() for option in options if option.strip()]


def test_every_package_is_there_for_a_reason() -> None:
    lines = [line for line in (REQUIREMENTS + TEST_REQUIREMENTS).splitlines() if line and line[0] not in "#-"]
    assert [line for line in lines if not re.search(r"  # \S", line)] == []


def test_the_documentation_says_what_each_package_of_the_service_is_for() -> None:
    rows = re.search(r"^\| package \| what for \|\n\| --- \| --- \|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert rows is not None
    names = [name for row in rows[1].splitlines() for name in re.findall(r"`([\w-]+)`", row.split("|")[1])]
    assert sorted(names) == sorted(requirement.name for requirement in SERVICE)


def test_the_service_installs_no_test_tool_but_pytest_and_pytest_django() -> None:
    names = [requirement.name for requirement in required(REQUIREMENTS)]
    assert names == [*(requirement.name for requirement in SERVICE), "pytest", "pytest-django"]


def test_the_test_tools_come_on_top_of_the_packages_of_the_service() -> None:
    assert TEST_REQUIREMENTS.startswith("-r ../requirements.txt\n")
    tools = {requirement.name for requirement in required(TEST_REQUIREMENTS)}
    assert tools.isdisjoint(requirement.name for requirement in required(REQUIREMENTS))


def test_the_command_of_the_documentation_locks_exactly_the_packages_of_the_service() -> None:
    command = re.search(r"^sed '.*' requirements\.txt", PAGE, re.MULTILINE)
    assert command is not None
    done = subprocess.run(["bash", "-c", command[0]], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert required(done.stdout) == SERVICE


def imported() -> Iterator[str]:
    """The top-level modules that the code of the service imports."""
    for app in ("accounts", "realtime", "piesite"):
        for path in (PROJECT / app).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    yield str(node.module).partition(".")[0]


def test_the_service_imports_only_packages_of_the_lock() -> None:
    pins = {canonicalize_name(pin.name) for pin, _ in locked()}
    foreign = set(imported()) - sys.stdlib_module_names - {"accounts", "realtime", "piesite"}
    providers = packages_distributions()
    missing = [name for name in foreign if pins.isdisjoint(map(canonicalize_name, providers.get(name, ())))]
    assert "django" in foreign
    assert missing == []


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
