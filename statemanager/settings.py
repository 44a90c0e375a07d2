"""The settings of the project. What differs between installations comes from environment variables.

Without DATABASE_URL, State Manager is *embedded*: SQLite, files and generated keys are stored below
`var/`, for use on one machine. With a PostgreSQL URL it is a *site*: the keys and the host names
must be set, and cookies and redirects expect HTTPS. `docs/settings.md` lists the variables.
"""

import hashlib
import os
import secrets
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from statemanager import __version__, env

MIN_SECRET_KEY = 32  # characters
BASE_DIR = Path(__file__).resolve().parent.parent
VAR = Path(env.text("VAR_DIR", str(BASE_DIR / "var")))
env.ensure_folder("VAR_DIR", VAR)

# --- keys and hosts -------------------------------------------------------------------------------


def _stored_key(name: str, new_key: str) -> str:
    """The content of a key file below `var/`, which is created with `new_key` if necessary.

    Only the owner can read the file. When several processes start at the same time, the link lets
    one of them win, and all of them read the same key.
    """
    path = VAR / name
    if not path.exists():
        draft = VAR / f"{name}.{os.getpid()}"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(new_key)
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()


_database = env.database("DATABASE_URL")
EMBEDDED = _database is None or _database["ENGINE"] == "django.db.backends.sqlite3"
DEBUG = env.flag("DEBUG", False)

# Signs sessions, tokens and hints. All hosts of a site need the same one.
SECRET_KEY = env.text("SECRET_KEY")
if not SECRET_KEY and EMBEDDED:
    SECRET_KEY = _stored_key("secret.key", secrets.token_urlsafe(64))
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "Set SECRET_KEY: it is required when DATABASE_URL names a PostgreSQL server."
    )

if not EMBEDDED and len(SECRET_KEY) < MIN_SECRET_KEY:
    raise ImproperlyConfigured(
        f"SECRET_KEY has {len(SECRET_KEY)} characters; a site needs at least {MIN_SECRET_KEY}. "
        "Make one with: openssl rand -base64 48"
    )
if not EMBEDDED and DEBUG:
    raise ImproperlyConfigured(
        "DEBUG shows settings and source code to everybody, so it can't be used with a PostgreSQL "
        "server. Unset DEBUG, or unset DATABASE_URL."
    )

# Encrypt the secrets of graphs. They are separate from SECRET_KEY so that each can be replaced
# without the other. The first key encrypts, and all of them decrypt.
SECRETS_KEYS = env.fernet_keys("SECRETS_KEYS")
if not SECRETS_KEYS and EMBEDDED:
    SECRETS_KEYS = [_stored_key("secrets.key", Fernet.generate_key().decode())]
if not SECRETS_KEYS:
    raise ImproperlyConfigured(
        "Set SECRETS_KEYS: it is required when DATABASE_URL names a PostgreSQL server. "
        "Make a key with: openssl rand -base64 32 | tr '+/' '-_'"
    )

ALLOWED_HOSTS = env.strings("ALLOWED_HOSTS")
if not ALLOWED_HOSTS and EMBEDDED:
    ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured(
        "Set ALLOWED_HOSTS to the host names of the site, separated by commas."
    )
CSRF_TRUSTED_ORIGINS = env.strings("CSRF_TRUSTED_ORIGINS")

# --- apps and middleware --------------------------------------------------------------------------

INSTALLED_APPS = [
    "statemanager.project_apps.ProjectConfig",
    # Before runs, whose admin unregisters their pages.
    "django_q",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "rest_framework_simplejwt.token_blacklist",
    "graphs.apps.GraphsConfig",
    "runs.apps.RunsConfig",
    "statemanager.project_apps.AdminSiteConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "statemanager.project_apps.LoginsConfig",  # django-axes
    "django_filters",
    "django_htmx",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    *env.strings("APPS"),  # packages with nodes of the installation
]
MIDDLEWARE = [
    "statemanager.middleware.RequestId",
    "statemanager.middleware.PrivateResponses",
    "statemanager.refusals.RequestLimits",
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
    "django_otp.middleware.OTPMiddleware",
    "statemanager.second_factor.SecondFactorRequired",
    "statemanager.sessions.SessionUse",
    "statemanager.user_time.UserTime",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",  # the last one: it answers for logins that are refused
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

# --- database and files ---------------------------------------------------------------------------

# Whether DATABASE_URL leads to a pooler that gives a connection to each transaction, such as
# pgbouncer. Then nothing is kept in sessions: no prepared statements and no settings, and waiting
# for notifications needs a direct connection, DATABASE_LISTEN_URL. Without one, workers look for
# hints several times a second.
DATABASE_POOLED = env.flag("DATABASE_POOLED", False)

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
if EMBEDDED:
    env.ensure_private_file((_database or {}).get("NAME") or VAR / "db.sqlite3")
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": (_database or {}).get("NAME") or VAR / "db.sqlite3",
            "CONN_MAX_AGE": 60,
            "OPTIONS": {
                # Seconds to wait for the lock of another writer.
                "timeout": 20,
                # Take the write lock at BEGIN. A transaction that reads first and writes later
                # would fail at once, without waiting, if another one wrote in between.
                "transaction_mode": "IMMEDIATE",
                # WAL lets readers and one writer work at the same time. With synchronous=FULL, a
                # commit survives a power failure. The cache has 64 MiB.
                "init_command": (
                    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-65536;"
                ),
            },
        }
    }
else:
    # The hot statements are prepared once per connection. A generic plan saves planning them for
    # each execution, which costs more than running them. JIT compilation also costs more than it
    # saves on short statements. The page cost is that of an SSD.
    _SESSION = "-c plan_cache_mode=force_generic_plan -c jit=off -c random_page_cost=1.1"
    DATABASES = {
        "default": {
            **(_database or {}),
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
            "DISABLE_SERVER_SIDE_CURSORS": DATABASE_POOLED,
            "OPTIONS": {
                # A host that vanishes must be noticed: a connection attempt fails after 10 s, and
                # a silent connection is closed after about 20 s. DATABASE_URL may say otherwise.
                "connect_timeout": 10,
                "keepalives_idle": 10,
                "keepalives_interval": 3,
                "keepalives_count": 3,
                "tcp_user_timeout": 20_000,
                **env.database_options("DATABASE_URL"),
                **({} if DATABASE_POOLED else {"options": _SESSION}),
                # Never prepare statements automatically: the engine prepares those that matter.
                "prepare_threshold": 1_000_000,
            },
        }
    }

# Datasets and artifacts. All hosts of a site must share this folder.
FILES = Path(env.text("FILES_DIR", str(VAR / "files")))
env.ensure_folder("FILES_DIR", FILES)
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
WHITENOISE_USE_FINDERS = True  # serves static files without `collectstatic`
FILE_UPLOAD_TEMP_DIR = None
# On a site, web servers and workers may be different users of one group.
FILE_UPLOAD_PERMISSIONS = 0o600 if EMBEDDED else 0o640
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700 if EMBEDDED else 0o750

# The largest body of a request, apart from uploads.
DATA_UPLOAD_MAX_MEMORY_SIZE = env.integer("MAX_BODY_BYTES", 5 * 2**20, 1024, 2**30)

# The largest body of an upload. Only views that accept uploads may be sent more than the above.
MAX_UPLOAD_BYTES = env.integer("MAX_UPLOAD_BYTES", 2**30, 1024, 2**40)

# Requests that each process of the web server works on at once.
WEB_THREADS = env.integer("WEB_THREADS", 8, 1, 256)

# --- execution ------------------------------------------------------------------------------------

_LEASE_SECONDS = env.number("LEASE_SECONDS", 30, 1, 3600)
# What `statemanager.conf` describes, as far as environment variables give it.
STATE_MANAGER = {
    "LEASE_SECONDS": _LEASE_SECONDS,
    # Three heartbeats per lease leave room for one that is late or lost.
    "HEARTBEAT_SECONDS": env.number("HEARTBEAT_SECONDS", _LEASE_SECONDS / 3, 0.2, 1200),
    "WORKER_LEASE_SECONDS": env.number("WORKER_LEASE_SECONDS", 900, 1, 7 * 24 * 3600),
    "SWEEP_SECONDS": env.number("SWEEP_SECONDS", 5, 0.2, 300),
    "PROBE_SECONDS": env.number("PROBE_SECONDS", 4, 0.5, 60),
    "GRACE_SECONDS": env.number("GRACE_SECONDS", 10, 1, 600),
    "NODE_TIMEOUT_SECONDS": env.number("NODE_TIMEOUT_SECONDS", 600, 1, 86400),
    "WORKERS": env.integer("WORKERS", min(os.cpu_count() or 2, 4), 1, 64),
    "NODE_THREADS": env.integer("NODE_THREADS", 16, 1, 256),
    "MAX_PAYLOAD_BYTES": env.integer("MAX_PAYLOAD_BYTES", 2 * 2**20, 1024, 2**28),
    "MAX_RUN_BYTES": env.integer("MAX_RUN_BYTES", 2**30, 1024, 2**50),
    "RETENTION_DAYS": env.integer("RETENTION_DAYS", 0, 0, 36500),
    "ALLOW_PRIVATE_ADDRESSES": env.flag("ALLOW_PRIVATE_ADDRESSES", False),
    "PUBLIC_URL": env.text("PUBLIC_URL").rstrip("/"),
    "LANGGRAPH_APPS": {
        "example": "runs.langgraph.example.assistant",
        **env.pairs("LANGGRAPH_APPS"),
    },
    "SECRETS_KEYS": SECRETS_KEYS,
    "STORAGE": "default",
    "FILES_DIR": FILES,
    "AUTHENTICATION_CLASSES": (
        "graphs.api.authentication.ApiKeyAuthentication",
        "graphs.api.authentication.JWTAuthentication",
        "graphs.api.authentication.SessionAuthentication",
    ),
    "DATABASE_POOLED": DATABASE_POOLED,
    "DATABASE_LISTEN_URL": env.text("DATABASE_LISTEN_URL"),
}

# Mail of notifications and of the node mail.send. Without a URL it goes to localhost, port 25.
vars().update(env.mail("EMAIL_URL"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("EMAIL_FROM", "statemanager@localhost")

# --- API and pages --------------------------------------------------------------------------------

# Whether everybody may read the documentation of the API, and the state of the installation.
PUBLIC_DOCS = env.flag("PUBLIC_DOCS", True)
PUBLIC_READYZ = env.flag("PUBLIC_READYZ", True)

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
LOGIN_URL = "admin:login"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": STATE_MANAGER["AUTHENTICATION_CLASSES"],
    # A view that forgets to name its permissions refuses everybody.
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
    # A key of its own, derived from SECRET_KEY, so that no other signature is valid as a token.
    "SIGNING_KEY": hashlib.sha256(b"json web tokens:" + SECRET_KEY.encode()).hexdigest(),
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=1),
    # A refresh token is good for one use, and `/token/revoke` ends it. A new password ends all
    # tokens of its account.
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
    "CHECK_REVOKE_TOKEN": True,
    "AUTH_TOKEN_CLASSES": ("graphs.auth.tokens.AccessToken",),
}
SPECTACULAR_SETTINGS = {
    "TITLE": "State Manager",
    "DESCRIPTION": (
        "Store, execute and manage runs of node graphs.\n\n"
        "External workers and their clients use the paths below `/v0/namespace/{ns}`, which follow "
        "the protocol of Exosphere's state manager. The paths below `/graphs`, `/runs` and "
        "`/datasets` start and watch runs of graphs, whose nodes run in State Manager's own "
        "workers or in external ones.\n\n"
        "**Authorize** with an API key. Create one in the admin or with "
        "`manage.py create_api_key --namespace NAME --scope read|run|worker|admin`. A key gives "
        "access to its namespaces only. Each operation needs one of the scopes, and `admin` "
        "includes the others."
    ),
    "VERSION": __version__,
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

# --- security -------------------------------------------------------------------------------------

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

# Passwords and logins. django-axes counts the failures of each account from each address.
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # refuses accounts that failed too often
    "django.contrib.auth.backends.ModelBackend",
]
AXES_HANDLER = "statemanager.failed_logins.FailedLogins"
AXES_FAILURE_LIMIT = env.integer("LOGIN_FAILURES", 5, 1, 1000)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_COOLOFF_TIME = "statemanager.logins.pause"
AXES_USERNAME_CALLABLE = "statemanager.logins.account"
AXES_CLIENT_IP_CALLABLE = "statemanager.logins.client_address"
AXES_LOCKOUT_CALLABLE = "statemanager.logins.locked_out"
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS: list[str] = []  # the log names accounts and addresses, never passwords

# Whether everyone needs a second factor. Otherwise each account may have one.
SECOND_FACTOR_REQUIRED = env.flag("SECOND_FACTOR_REQUIRED", False)
OTP_TOTP_ISSUER = "State Manager"

# A session in the admin ends when it was not used for this long; 0 means never.
SESSION_IDLE_MINUTES = env.integer("SESSION_IDLE_MINUTES", 0 if EMBEDDED else 720, 0, 20160)

# Cookies, redirects and HSTS for HTTPS. Load balancers ask for the health pages over plain HTTP.
HTTPS = env.flag("HTTPS", not EMBEDDED)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
# Other hosts of the domain may well not speak HTTPS, and a preloaded domain is hard to take back.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.flag("HSTS_SUBDOMAINS", False)
SECURE_HSTS_PRELOAD = env.flag("HSTS_PRELOAD", False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # the two lines above
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]

# Trust X-Forwarded-Proto only behind a proxy that sets it; otherwise any client could.
BEHIND_PROXY = env.flag("BEHIND_PROXY", False)
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# --- logging --------------------------------------------------------------------------------------

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
