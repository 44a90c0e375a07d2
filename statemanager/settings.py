"""The settings of the project, all in this file; what differs per installation comes from the environment.

Without DATABASE_URL State Manager is *embedded*: SQLite, files and a generated secret key below `var/`,
meant for one machine. With it, it is a *site*: the secret key and the host names must be given, and cookies
and redirects expect HTTPS. `docs/settings.md` lists the variables.
"""

import hashlib
import os
import secrets
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from statemanager import env

BASE_DIR = Path(__file__).resolve().parent.parent
VAR = Path(env.text("VAR_DIR", str(BASE_DIR / "var")))
env.folder("VAR_DIR", VAR)


def _embedded_secret(name: str, made: str) -> str:
    """The text of this file below `var/`, which is made once and readable by its owner only."""
    path = VAR / name
    if not path.exists():
        draft = VAR / f"{name}.{os.getpid()}"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made)
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()


_database = env.database("DATABASE_URL")
EMBEDDED = _database is None or _database["ENGINE"] == "django.db.backends.sqlite3"
DEBUG = env.flag("DEBUG", False)
SECRET_KEY = env.text("SECRET_KEY") or (
    _embedded_secret("secret.key", secrets.token_urlsafe(64)) if EMBEDDED else ""
)
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "SECRET_KEY must be set when DATABASE_URL names a PostgreSQL server."
    )
SECRETS_KEYS = env.fernet_keys("SECRETS_KEYS") or (
    [_embedded_secret("secrets.key", Fernet.generate_key().decode())] if EMBEDDED else []
)
if not SECRETS_KEYS:
    raise ImproperlyConfigured(
        "SECRETS_KEYS must be set when DATABASE_URL names a PostgreSQL server: openssl rand -base64 32 | tr '+/' '-_'"
    )
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS") or (
    ["localhost", "127.0.0.1", "[::1]"] if EMBEDDED else []
)
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured(
        "ALLOWED_HOSTS must list the host names of the site, separated by commas."
    )
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "django_q",  # before runs, whose admin takes its pages away
    "statemanager.apps.StateManagerConfig",
    "graphs.apps.GraphsConfig",
    "runs.apps.RunsConfig",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "django_filters",
    "django_htmx",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    *env.words("APPS"),
]
MIDDLEWARE = [
    "statemanager.middleware.RequestId",
    "statemanager.middleware.LengthRequired",
    "statemanager.middleware.BothSlashForms",
    "statemanager.middleware.DatabaseAway",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "statemanager.middleware.CompressedPages",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "statemanager.urls"
WSGI_APPLICATION = "statemanager.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- data -----------------------------------------------------------------------------------------------------------

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
if EMBEDDED:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": (_database or {}).get("NAME") or VAR / "db.sqlite3",
            "CONN_MAX_AGE": 60,
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-65536;",
            },
        }
    }
else:
    # The hot statements are prepared once per connection; planning them anew would cost more than running them.
    _session = {
        "options": "-c plan_cache_mode=force_generic_plan -c jit=off -c random_page_cost=1.1",
        "prepare_threshold": 1_000_000,
    }
    DATABASES = {
        "default": {
            **(_database or {}),
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": _session,
        }
    }
FILES = Path(env.text("FILES_DIR", str(VAR / "files")))
env.folder("FILES_DIR", FILES)
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(FILES)},
    },
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
STATIC_URL = "static/"
STATIC_ROOT = VAR / "static"
STATIC_ROOT.mkdir(exist_ok=True)
WHITENOISE_USE_FINDERS = True
DATA_UPLOAD_MAX_MEMORY_SIZE = env.integer("MAX_BODY_BYTES", 5 * 2**20, 1024, 2**30)
FILE_UPLOAD_TEMP_DIR = None

# --- execution ------------------------------------------------------------------------------------------------------

LEASE_SECONDS = env.number("LEASE_SECONDS", 30, 1, 3600)
HEARTBEAT_SECONDS = env.number("HEARTBEAT_SECONDS", LEASE_SECONDS / 3, 0.2, 1200)
RETENTION_DAYS = int(env.number("RETENTION_DAYS", 0, 0, 36500))
WORKER_LEASE_SECONDS = env.number("WORKER_LEASE_SECONDS", 900, 1, 7 * 24 * 3600)
SWEEP_SECONDS = env.number("SWEEP_SECONDS", 5, 0.2, 300)
PROBE_SECONDS = env.number("PROBE_SECONDS", 4, 0.5, 60)
GRACE_SECONDS = env.number("GRACE_SECONDS", 10, 1, 600)
NODE_TIMEOUT_SECONDS = env.number("NODE_TIMEOUT_SECONDS", 600, 1, 86400)
NODE_THREADS = env.integer("NODE_THREADS", 16, 1, 256)
MAX_PAYLOAD_BYTES = env.integer("MAX_PAYLOAD_BYTES", 2 * 2**20, 1024, 2**28)
WORKERS = env.integer("WORKERS", min(os.cpu_count() or 2, 4), 1, 64)
ALLOW_PRIVATE_ADDRESSES = env.flag("ALLOW_PRIVATE_ADDRESSES", False)
LANGGRAPH_APPS = {
    "example": "runs.langgraph.example.assistant",
    **env.pairs("LANGGRAPH_APPS"),
}  # what `langgraph.run` may run

# django-q2 carries wake-up hints only; docs/architecture.md tells why each value is what it is.
Q_CLUSTER = {
    "name": "statemanager",
    "orm": "default",
    "broker_class": "runs.engine.wakeup.WakingBroker",
    "workers": WORKERS,
    "queue_limit": WORKERS,
    "bulk": 1,
    "timeout": int(NODE_TIMEOUT_SECONDS) + 60,
    "retry": int(NODE_TIMEOUT_SECONDS) + 120,
    "max_attempts": 1,
    "ack_failures": True,
    "save_limit": -1,
    "scheduler": False,
    "recycle": 5000,
    "guard_cycle": 0.5,
    "poll": 0.2,
    "catch_up": False,
    "label": "Background hints",
    "log_level": "WARNING",
}

# --- web ------------------------------------------------------------------------------------------------------------

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
LOGIN_URL = "admin:login"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "graphs.api.authentication.ApiKeyAuthentication",
        "graphs.api.authentication.JWTAuthentication",
        "graphs.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["graphs.api.permissions.Denied"],
    "DEFAULT_THROTTLE_CLASSES": ["graphs.api.throttling.KeyThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["graphs.api.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "graphs.api.schema.OperationSchema",
    "EXCEPTION_HANDLER": "graphs.api.errors.handle",
    "UNAUTHENTICATED_USER": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SIMPLE_JWT = {
    "SIGNING_KEY": hashlib.sha256(b"json web tokens:" + SECRET_KEY.encode()).hexdigest(),
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=1),
}
SPECTACULAR_SETTINGS = {
    "TITLE": "State Manager",
    "DESCRIPTION": (
        "Store, execute and manage runs of node graphs.\n\n"
        "Below `/v0/namespace/{ns}` is the State Manager API for external workers and their clients (the protocol of Exosphere's state manager); "
        "`/graphs`, `/runs` and `/datasets` start and watch runs of graphs of our own nodes.\n\n"
        "**Authorize** with an API key: `manage.py create_api_key --namespace NAME --scope read|run|worker|admin`, or API keys in the admin. A key opens its "
        "namespaces only; each operation needs one of the scopes, and `admin` includes the others."
    ),
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "RunStatus": "runs.core.statuses.RUN_STATUSES",
        "StateStatus": "runs.core.statuses.STATE_STATUSES",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "graphs.api.schema.add_idempotency_keys",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}
X_FRAME_OPTIONS = "DENY"
HTTPS = env.flag("HTTPS", not EMBEDDED)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
if env.flag("BEHIND_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {
        "handlers": ["console"],
        "level": env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
    },
    "loggers": {
        "django.request": {"level": "ERROR"},
        "django-q": {"level": "WARNING", "propagate": True},
    },
}
