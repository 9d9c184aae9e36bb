"""Settings of the project, read from the environment.

Every variable has a default that suits a development machine; README.md lists them. Instead of a variable `X`, you can
set `X_FILE` to the path of a file that contains the value, such as a container secret.
"""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

from . import __version__
from .data_files import create_private_file, read_or_create_secret
from .environment import env, known_time_zone, mail_server, networks, one_of, supported_database
from .redis_urls import database_number

VERSION = __version__
BASE_DIR = Path(__file__).resolve().parent.parent
env.read_env(BASE_DIR / ".env", recurse=False)

# The directory of the SQLite database and the generated secret key, unless others are configured. Relative paths start
# at BASE_DIR: workers and commands have different working directories, but must use the same files.
DATA_DIR = BASE_DIR / env.path("DATA_DIR", default=Path(".data"))

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="")
SECRET_KEY_IS_GENERATED = not SECRET_KEY
if SECRET_KEY_IS_GENERATED:
    SECRET_KEY = read_or_create_secret(DATA_DIR / "secret_key")
SECRET_KEY_FALLBACKS: list[str] = env.words("SECRET_KEY_FALLBACKS", default=[])
# Encrypt the secrets of API keys at rest: the first key encrypts, every key decrypts. If empty, SECRET_KEY is used.
ENCRYPTION_KEYS: list[str] = env.words("ENCRYPTION_KEYS", default=[])

# The domains whose subdomains are clusters: `demo.localhost` is the cluster `demo`.
CLUSTER_DOMAINS = [domain.lower().strip(".") for domain in env.words("CLUSTER_DOMAINS", default=["localhost"])]
ALLOWED_HOSTS = [
    *(host.lower() for host in env.words("ALLOWED_HOSTS", default=[])),
    *(f".{domain}" for domain in CLUSTER_DOMAINS),
    "localhost",
    "127.0.0.1",
    "[::1]",
]
# Whether clients connect through a proxy that terminates TLS and overrides X-Forwarded-Proto.
HTTPS = env.bool("HTTPS", default=False)
CSRF_TRUSTED_ORIGINS = [origin.lower() for origin in env.words("CSRF_TRUSTED_ORIGINS", default=[])]
CSRF_FAILURE_VIEW = "accounts.console.errors.csrf_failure"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 365 * 86400 if HTTPS else 0
# These checks ask for HSTS on all subdomains of the admin's host, but this service cannot know whether all use TLS.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
DEFAULT_EXCEPTION_REPORTER_FILTER = "piesite.error_reports.ErrorReportFilter"

INSTALLED_APPS = [
    "daphne",  # must come first, so that `runserver` also serves WebSockets
    "accounts.admin_site.ServiceAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "knox",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "accounts",
    "realtime",
    "piesite",
]
MIDDLEWARE = [
    "piesite.security.SecurityHeaders",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "piesite.security.Utf8Bodies",
    "piesite.security.ClusterHosts",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "piesite.slashes.SlashMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.audit.AuditMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "accounts.second_factors.SecondFactorMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "piesite.urls"
ASGI_APPLICATION = "piesite.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Before the apps, because allauth's templates have the same names as ours.
        "DIRS": [BASE_DIR / "accounts" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "accounts.console.site.site",
            ]
        },
    }
]

DATABASES = {"default": supported_database(env.dj_db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR}/db.sqlite3"))}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    if DATABASES["default"]["NAME"] != ":memory:":
        DATABASES["default"]["NAME"] = create_private_file(BASE_DIR / DATABASES["default"]["NAME"])
    # With WAL, readers are not blocked while another connection writes. With IMMEDIATE, writers wait for each other
    # instead of failing. With FULL, a commit is on disk before the response is sent, which costs about 1 ms. With
    # NORMAL, a power failure could undo the last commits and make a revoked key valid again.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 10,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
else:
    # Requests are handled in a fixed number of threads (realtime/http/django_limits.py), and each keeps its connection.
    DATABASES["default"].update(CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True)
    # By default, a lost network is detected only after minutes, for which a thread waits. The times are in seconds,
    # except tcp_user_timeout, which is in milliseconds.
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        connect_timeout=5, keepalives_idle=5, keepalives_interval=5, keepalives_count=3, tcp_user_timeout=15_000
    )

# Channels are distributed over all Redis servers. The first also has the connection counts, presence and the cache.
REDIS_URLS: list[str] = env.words("REDIS_URL", default=[])
# Begins all names on Redis, so that several services can share one. It contains the number of the database, since
# pub/sub ignores that.
REDIS_PREFIX = f"{env.str('REDIS_PREFIX', default='piesocket')}:{database_number(REDIS_URLS[0]) if REDIS_URLS else 0}:"
CACHES: dict[str, dict[str, Any]]
if REDIS_URLS:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "realtime.cluster.layer.PubSubLayer",
            "CONFIG": {
                # Timeouts in seconds. They are explicit because redis-py has changed its defaults.
                "hosts": [
                    {"address": url, "socket_timeout": 5, "socket_connect_timeout": 3, "socket_keepalive": True}
                    for url in REDIS_URLS
                ],
                "prefix": REDIS_PREFIX,
            },
        }
    }
    CACHES = {
        "default": {
            "BACKEND": "piesite.json_cache.JSONCache",
            "LOCATION": REDIS_URLS[0],
            "KEY_PREFIX": REDIS_PREFIX,
            # Django's own serializer would run code that anybody who can write to Redis has pickled.
            "OPTIONS": {"serializer": "piesite.json_serializer.JSONSerializer"},
        }
    }
else:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels.layers.InMemoryChannelLayer",
            # A node has one mailbox, so all channels share its capacity. Its membership of groups must not expire after
            # a day, which is the layer's default.
            "CONFIG": {"capacity": 10_000, "group_expiry": 10 * 365 * 86400},
        }
    }
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "OPTIONS": {"MAX_ENTRIES": 100_000},  # the default is 300, which would evict the counters of rate limits
        }
    }

# The name and the links that the console and the front page show. Without a URL, they show no link.
SITE_NAME = env.str("SITE_NAME", default="WebSocket service")
SUPPORT_URL = env.str("SUPPORT_URL", default="")
TERMS_URL = env.str("TERMS_URL", default="")
# Whether the front page shows the WebSocket tester to everybody; people who are logged in always see it.
SHOW_TESTER = env.bool("SHOW_TESTER", default=True)

AUTH_USER_MODEL = "accounts.User"
SESSION_ENGINE = "accounts.session_store"
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "account_login", "console:home", "account_login"
# Who can become a user: everybody, people with an invitation, or only people whom operators create.
SIGN_UP = env.str("SIGN_UP", default="invited", validate=one_of("SIGN_UP", "open", "invited", "closed"))
# Whether staff must have a second factor. Until they have one, they can only set it up.
STAFF_NEED_SECOND_FACTOR = env.bool("STAFF_NEED_SECOND_FACTOR", default=False)

# The mail server. Without one, mails are printed, and addresses need no verification.
MAIL_SERVER = mail_server(env.str("EMAIL_URL", default=""))
SENDS_MAIL = bool(MAIL_SERVER)
EMAIL_BACKEND = "piesite.mail.BackgroundMail" if SENDS_MAIL else "piesite.mail.PrintedMail"
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str("MAIL_FROM", default=f"no-reply@{CLUSTER_DOMAINS[0]}")
EMAIL_SUBJECT_PREFIX = ""

# django-allauth: the log-in of the console and the admin. accounts/logins.py and accounts/attempts.py have its limits.
ACCOUNT_ADAPTER = "accounts.allauth_adapter.AccountAdapter"
ACCOUNT_FORMS = {
    name: f"accounts.console.log_in_forms.{form}"
    for name, form in {
        "login": "LoginForm",
        "signup": "SignUpForm",
        "reset_password": "ResetPasswordForm",
        "change_password": "ChangePasswordForm",
    }.items()
}
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory" if SENDS_MAIL else "none"
ACCOUNT_EMAIL_NOTIFICATIONS = SENDS_MAIL
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_REAUTHENTICATION_METHODS = ["password", "mfa"]
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_RATE_LIMITS = False
MFA_ADAPTER = "accounts.allauth_adapter.SecondFactorAdapter"
MFA_FORMS = {
    name: f"accounts.console.log_in_forms.{form}"
    for name, form in {
        "authenticate": "CodeForm",
        "reauthenticate": "CodeAgainForm",
        "activate_totp": "ActivateAppForm",
        "add_webauthn": "AddPasskeyForm",
        "authenticate_webauthn": "PasskeyForm",
        "reauthenticate_webauthn": "PasskeyAgainForm",
        "login_webauthn": "PasskeyLoginForm",
    }.items()
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_TOTP_TOLERANCE = 1  # a clock may be 30 seconds fast or slow
MFA_ALLOW_UNVERIFIED_EMAIL = not SENDS_MAIL
MFA_RATE_LIMITS = False
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in {
        "UserAttributeSimilarityValidator": {"user_attributes": ["email", "name"]},
        "MinimumLengthValidator": {},
        "CommonPasswordValidator": {},
        "NumericPasswordValidator": {},
    }.items()
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = env.str("TIME_ZONE", default="UTC", validate=known_time_zone)
USE_I18N = False
FORMAT_MODULE_PATH = "piesite.formats"

STATIC_URL = "/static/"
# Serve static files directly from the apps, so that `collectstatic` is not needed. It copies them for other servers.
WHITENOISE_USE_FINDERS = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage",
        # Not in STATIC_ROOT, of which WhiteNoise would warn if the directory does not exist.
        "OPTIONS": {"location": BASE_DIR / env.path("STATIC_ROOT", default=Path(".static"))},
    },
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    # No multipart parser: it would write uploaded files to disk, even for clients without a token.
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser", "rest_framework.parsers.FormParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "accounts.api.pagination.Pagination",
    "DEFAULT_SCHEMA_CLASS": "accounts.api.schema.Schema",
    "DEFAULT_THROTTLE_CLASSES": [
        "accounts.api.throttling.AddressThrottle",
        "accounts.api.throttling.UserThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "anon": env.str("API_ANON_RATE", default="60/min"),
        "user": env.str("API_USER_RATE", default="600/min"),
        "login": env.str("API_LOGIN_RATE", default="10/min"),
    },
    # The number of trusted proxies in front of the service. With 0, X-Forwarded-For is ignored.
    "NUM_PROXIES": env.int("NUM_PROXIES", default=0),
    "EXCEPTION_HANDLER": "accounts.api.errors.api_exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
KNOX_TOKEN_MODEL = "accounts.ApiToken"  # noqa: S105  (a name)
MIGRATION_MODULES = {"knox": None}  # they would create a table for its own model, which is not used
REST_KNOX = {"TOKEN_TTL": env.timedelta("API_TOKEN_TTL", default=timedelta(days=30))}
# Beyond this number, the oldest tokens of a user end.
API_TOKENS_PER_USER = env.int("API_TOKENS_PER_USER", default=50)
SPECTACULAR_SETTINGS = {
    "TITLE": f"{SITE_NAME}: management API",
    "DESCRIPTION": (
        "Manages the accounts, clusters, API keys and webhooks of this WebSocket service.\n\n"
        "Every request needs a token. Send your e-mail address and password to `POST /api/v1/token/`, and send the "
        "`token` in the answer with all other requests, as the header `Authorization: Token …`. "
        "`DELETE /api/v1/token/` revokes the token. Users with a second factor create tokens in the console."
    ),
    "VERSION": VERSION,
    "CONTACT": {"url": SUPPORT_URL} if SUPPORT_URL else {},
    "TOS": TERMS_URL or None,
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,  # requests and responses have different fields
    "ENFORCE_NON_BLANK_FIELDS": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "accounts.api.schema.document_errors",
    ],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "filters": {
        "limit": {"()": "piesite.log_filters.LogLimit"},
        "cancelled_requests": {"()": "piesite.log_filters.CancelledRequests"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line"},
        "limited_console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["limit"]},
    },
    "root": {"handlers": ["console"], "level": env.log_level("LOG_LEVEL", default=logging.INFO)},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        # Django logs every 4xx response as a warning, and any client can cause those.
        "django.request": {"level": "ERROR"},
        # Any client can cause these too, with a wrong host name or an expired form.
        "django.security": {"handlers": ["limited_console"], "level": "WARNING", "propagate": False},
        "asyncio": {"filters": ["cancelled_requests"]},
        "daphne": {"level": "WARNING"},
        # While Redis is unavailable, it logs a traceback every second; `realtime` logs the outage once.
        "channels_redis": {"level": "CRITICAL"},
    },
}

# The quotas of accounts that set none themselves.
QUOTAS = {
    "CONNECTIONS": env.int("QUOTA_CONNECTIONS", default=100_000),  # open at the same time
    "MESSAGES_PER_SECOND": env.int("QUOTA_MESSAGES_PER_SECOND", default=100_000),  # from one connection
    "MESSAGES_PER_DAY": env.int("QUOTA_MESSAGES_PER_DAY", default=1_000_000_000),
    "CLUSTERS": env.int("QUOTA_CLUSTERS", default=50),
    "KEYS": env.int("QUOTA_KEYS", default=1_000),  # that are not revoked
    "MEMBERS": env.int("QUOTA_MEMBERS", default=100),  # and pending invitations
    "WEBHOOKS": env.int("QUOTA_WEBHOOKS", default=20),
}
# Whether the owners of accounts get an e-mail when 80 % and 100 % of a quota are used.
QUOTA_NOTICES = env.bool("QUOTA_NOTICES", default=True)
# Whether webhooks may also be sent with http, without encryption.
WEBHOOK_ALLOWS_HTTP = env.bool("WEBHOOK_ALLOWS_HTTP", default=False)
# The networks that webhooks may be sent to although they are not public, for the operator's own receivers.
WEBHOOK_ALLOWED_NETWORKS = networks("WEBHOOK_ALLOWED_NETWORKS")
# The HTTP proxy that all webhooks are sent through. It decides which addresses they may reach.
WEBHOOK_PROXY = env.str("WEBHOOK_PROXY", default="")
# How many accounts a person may create. With 0, only operators create accounts.
ACCOUNTS_PER_PERSON = env.int("ACCOUNTS_PER_PERSON", default=1)
# How often the people of an account may change it in a day (UTC), since each change is recorded in the audit log.
CHANGES_PER_DAY = env.int("CHANGES_PER_DAY", default=2_000)
# The names that no new cluster can have. `*` stands for any characters. Browsers and mail programs trust some of these
# host names without asking, and people would take others for the operator's.
RESERVED_CLUSTER_IDS = [
    name.lower()
    for name in env.words(
        "RESERVED_CLUSTER_IDS",
        default=[
            *("www", "www-*", "admin", "administrator", "api", "app", "console", "dashboard", "login", "account"),
            *("accounts", "auth", "oauth", "sso", "id", "billing", "pay", "security", "support", "help", "docs"),
            *("blog", "status", "static", "assets", "cdn", "root", "localhost", "mail", "email", "webmail", "smtp"),
            *("imap", "pop", "pop3", "mx", "ns", "ns1", "ns2", "dns", "ftp", "ssh", "vpn", "wpad", "isatap"),
            *("autoconfig", "autodiscover", "mta-sts", "broadcasthost", "xn--*"),
        ],
    )
]

# Settings of `realtime`. Their defaults, units and reasons are in realtime/conf.py.
REALTIME = {
    "MAX_MESSAGE_BYTES": env.int("MAX_MESSAGE_BYTES", default=None),
    "MAX_BACKLOG_BYTES": env.int("MAX_BACKLOG_BYTES", default=None),
    "MAX_TOTAL_BACKLOG_BYTES": env.int("MAX_TOTAL_BACKLOG_BYTES", default=None),
    "MAX_CONNECTIONS": env.int("MAX_CONNECTIONS", default=None),
    "MAX_CONNECTIONS_PER_ADDRESS": env.int("MAX_CONNECTIONS_PER_ADDRESS", default=None),
    "MAX_CHANNELS_PER_CONNECTION": env.int("MAX_CHANNELS_PER_CONNECTION", default=None),
    "CLIENT_EVENTS_PER_SECOND": env.int("CLIENT_EVENTS_PER_SECOND", default=None),
    "AUTHORIZATION_SECONDS": env.float("AUTHORIZATION_SECONDS", default=None),
    "CONNECTS_PER_MINUTE_PER_ADDRESS": env.int("CONNECTS_PER_MINUTE_PER_ADDRESS", default=None),
    "REQUESTS_PER_MINUTE_PER_ADDRESS": env.int("REQUESTS_PER_MINUTE_PER_ADDRESS", default=None),
    "MAX_HTTP_PER_ADDRESS": env.int("MAX_HTTP_PER_ADDRESS", default=None),
    "MAX_REQUESTS_AT_ONCE": env.int("MAX_REQUESTS_AT_ONCE", default=None),
    "REQUEST_HEAD_SECONDS": env.float("REQUEST_HEAD_SECONDS", default=None),
    "REQUEST_SECONDS": env.float("REQUEST_SECONDS", default=None),
    "DRAIN_SECONDS": env.float("DRAIN_SECONDS", default=None),
    "KEY_CACHE_SECONDS": env.float("KEY_CACHE_SECONDS", default=None),
    "USAGE_SECONDS": env.float("USAGE_SECONDS", default=None),
    "METRICS_ALLOWED": env.words("METRICS_ALLOWED", default=None),
    "METRICS_TOKEN": env.str("METRICS_TOKEN", default=None),
}
