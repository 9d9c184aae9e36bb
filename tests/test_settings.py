"""Wrong settings keep the server from listening, with a sentence each; harmless spellings are understood."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import PROJECT, SECRET_KEY, environment, manage

# Without a usable value, the settings cannot be loaded.
UNUSABLE = {
    "SIGN_UP": ("everybody", "SIGN_UP is 'everybody', but must be open, invited or closed."),
    "EMAIL_URL": ("mail.example.com", "EMAIL_URL is not valid."),
    "TIME_ZONE": ("", "TIME_ZONE is '', which is not a time zone."),
    "DATABASE_URL": ("mysql://127.0.0.1/ws", "DATABASE_URL must begin with postgres:// or sqlite:///."),
    "WEBHOOK_ALLOWED_NETWORKS": (
        "intranet",
        "'intranet' in WEBHOOK_ALLOWED_NETWORKS is neither an IP address nor a network.",
    ),
    "DATA_DIR": ("/proc/none", "Cannot read or create /proc/none/secret_key"),
}
WRONG = {
    "REDIS_URL": ("foo", "URL 1 of REDIS_URL is not valid: it does not begin with redis://, rediss:// or unix://."),
    "API_LOGIN_RATE": ("ten", "API_LOGIN_RATE is 'ten', which is not a number of requests in a period."),
    "API_USER_RATE": ("5/10m", "API_USER_RATE is '5/10m', which is not a number of requests in a period."),
    "API_TOKEN_TTL": ("0", "API_TOKEN_TTL is 0 seconds, but must be at least 1."),
    "SECRET_KEY": ("short", "SECRET_KEY has fewer than 32 characters."),
    "ENCRYPTION_KEYS": ("short", "Key 1 of ENCRYPTION_KEYS has fewer than 32 characters."),
    "CLUSTER_DOMAINS": ("a.org, ws.a.org", "'ws.a.org' in CLUSTER_DOMAINS is already a host name of 'a.org'."),
    "ALLOWED_HOSTS": ("https://a.org", "'https://a.org' in ALLOWED_HOSTS is not a host name."),
    "CSRF_TRUSTED_ORIGINS": ("https://a.org/", "'https://a.org/' in CSRF_TRUSTED_ORIGINS is not an origin."),
    "NUM_PROXIES": ("-1", "NUM_PROXIES is -1, but must be 0 or more."),
    "SITE_NAME": (" ", "SITE_NAME is empty."),
    "SUPPORT_URL": ("help.example.com", "SUPPORT_URL is 'help.example.com', which is not a URL."),
    "TERMS_URL": ("javascript:alert(1)", "TERMS_URL is 'javascript:alert(1)', which is not a URL."),
    "METRICS_ALLOWED": ("monitor", "'monitor' in METRICS_ALLOWED is neither an IP address nor a network."),
    "WEBHOOK_PROXY": ("10.0.0.5:4750", "WEBHOOK_PROXY is not the URL of an HTTP proxy without user and password."),
}
SHOW = """
import json
from django.conf import settings
names = ["ALLOWED_HOSTS", "CLUSTER_DOMAINS", "CSRF_TRUSTED_ORIGINS", "ENCRYPTION_KEYS", "REDIS_URLS",
         "SECRET_KEY_FALLBACKS", "REALTIME"]
print(json.dumps({name: getattr(settings, name) for name in names}))
"""


def fails(env: dict[str, str], *arguments: str, folder: Path = PROJECT) -> str:
    """Run a command that must fail, and return its error output, which has no traceback."""
    done = subprocess.run(
        [sys.executable, str(PROJECT / "manage.py"), *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Listening" not in done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("name", UNUSABLE)
def test_serve_does_not_listen_with_an_unusable_setting(name: str, tmp_path: Path) -> None:
    value, sentence = UNUSABLE[name]
    env = environment(tmp_path, **{"SECRET_KEY": "" if name == "DATA_DIR" else SECRET_KEY, name: value})
    assert sentence in fails(env, "serve", "--port", "0")


def test_serve_does_not_listen_with_wrong_settings_and_names_them_all(tmp_path: Path) -> None:
    said = fails(environment(tmp_path, **{name: value for name, (value, _) in WRONG.items()}), "serve", "--port", "0")
    assert [sentence for _, sentence in WRONG.values() if sentence not in said] == []


@pytest.mark.parametrize("name", ["REDIS_URL", "DATABASE_URL"])
def test_serve_does_not_listen_with_a_generated_secret_key_and_shared_storage(name: str, tmp_path: Path) -> None:
    url = {"REDIS_URL": "redis://127.0.0.1:1", "DATABASE_URL": "postgres://127.0.0.1:1/ws"}[name]
    said = fails(environment(tmp_path, SECRET_KEY="", **{name: url}), "serve", "--port", "0")
    assert f"SECRET_KEY is not set, but {name} is." in said


def test_serve_does_not_listen_if_it_cannot_decrypt_what_is_stored(migrated: Path) -> None:
    first, second = "a" * 40, "b" * 40
    env = environment(migrated, ENCRYPTION_KEYS=first)
    manage(env, "demo")
    wrong = {**env, "ENCRYPTION_KEYS": second}
    assert "ENCRYPTION_KEYS cannot decrypt the secrets of 1 API keys" in fails(wrong, "serve", "--port", "0")
    manage({**env, "ENCRYPTION_KEYS": f"{second}, {first}"}, "check", "--database", "default")


def test_spaces_line_ends_and_capitals_in_lists_do_not_matter(tmp_path: Path) -> None:
    env = environment(
        tmp_path,
        ALLOWED_HOSTS=" Admin.Example.com , other.example.com",
        CLUSTER_DOMAINS="Example.com., example.org",
        CSRF_TRUSTED_ORIGINS="https://A.org, https://b.org,",
        ENCRYPTION_KEYS=f"{'a' * 40}, {'b' * 40}\n{'c' * 40}\n",
        REDIS_URL="redis://one, redis://two",
        SECRET_KEY_FALLBACKS=f"{'a' * 40} ,{'b' * 40}",
        METRICS_ALLOWED="10.0.0.1, ::1",
    )
    shown = json.loads(manage(env, "shell", "-v", "0", "-c", SHOW))
    assert shown["ALLOWED_HOSTS"][:2] == ["admin.example.com", "other.example.com"]
    assert shown["CLUSTER_DOMAINS"] == ["example.com", "example.org"]
    assert shown["CSRF_TRUSTED_ORIGINS"] == ["https://a.org", "https://b.org"]
    assert shown["ENCRYPTION_KEYS"] == ["a" * 40, "b" * 40, "c" * 40]
    assert shown["REDIS_URLS"] == ["redis://one", "redis://two"]
    assert shown["SECRET_KEY_FALLBACKS"] == ["a" * 40, "b" * 40]
    assert shown["REALTIME"]["METRICS_ALLOWED"] == ["10.0.0.1", "::1"]
