"""The places that the service runs in: systems without Unix modules, and behind servers of static files."""

import subprocess
import sys
from pathlib import Path

from tests.servers import PROJECT, environment, manage

IMPORTS_EVERYTHING = """
import builtins, importlib, os, pkgutil
from django.core.management import ManagementUtility

OURS = ("accounts", "realtime", "piesite")
UNIX_ONLY = ("fcntl", "grp", "pwd", "resource", "termios")
original = builtins.__import__

def as_on_windows(name, globals=None, *arguments, **named):
    if name in UNIX_ONLY and str((globals or {}).get("__name__")).partition(".")[0] in OURS:
        raise ModuleNotFoundError(f"No module named {name!r}")
    return original(name, globals, *arguments, **named)

builtins.__import__ = as_on_windows
os.environ["DJANGO_SETTINGS_MODULE"] = "piesite.settings"
import django
django.setup()
count = 0
for package in OURS:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)
        count += 1
from realtime.conf import conf
from realtime.management.running import announced, running_port
assert conf().max_connections > 1000
with announced(django.conf.settings.DATA_DIR, 8000):
    assert running_port(django.conf.settings.DATA_DIR) is None
print(count)
"""


def test_every_module_can_be_imported_without_the_modules_that_windows_lacks(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_EVERYTHING],
        cwd=PROJECT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_the_static_files_can_be_collected_for_another_server(tmp_path: Path) -> None:
    target = tmp_path / "static"
    manage(environment(tmp_path, STATIC_ROOT=str(target)), "collectstatic", "--noinput")
    for path in ("admin/css/base.css", "realtime/tester.js", "drf_spectacular_sidecar/swagger-ui-dist/swagger-ui.css"):
        assert (target / path).is_file()
