"""A shop with users, an admin, an API and a database of its own, which installs State Manager."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
VAR = Path(os.environ["SHOP_VAR"])
SECRET_KEY = "only-for-the-tests-of-the-shop-and-long-enough"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
AUTH_USER_MODEL = "shop.Customer"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = [
    "shop.admin_apps.ShopAdminConfig",
    "shop",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "statemanager",
    "graphs",
    "runs",
    "django_q",
    "django_htmx",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
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
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": VAR / "shop.sqlite3",
    "OPTIONS": {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL;",
    },
}
POSTGRESQL = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "statemanager",
    "USER": "statemanager",
    "HOST": "127.0.0.1",
    "PORT": os.environ.get("SHOP_POSTGRESQL_PORT"),
}
DATABASES = {
    "default": POSTGRESQL if "SHOP_POSTGRESQL_PORT" in os.environ else SQLITE,
    "warehouse": {"ENGINE": "django.db.backends.sqlite3", "NAME": VAR / "warehouse.sqlite3"},
}
STATIC_URL = "/assets/"
MEDIA_ROOT = VAR / "media"
LANGUAGE_CODE = "de"
TIME_ZONE = "Europe/Berlin"
USE_TZ = True
USE_I18N = True

# The shop's own API is closed, paged, and answers errors in its own way.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "PAGE_SIZE": 10,
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.BrowsableAPIRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FormParser"],
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "1/day"},
    "EXCEPTION_HANDLER": "shop.views.shop_errors",
}
# The shop's own cluster.
Q_CLUSTER = {
    "name": "shop",
    "orm": "default",
    "workers": 1,
    "timeout": 60,
    "retry": 120,
    "sync": False,
    "catch_up": True,
}
STATE_MANAGER = {
    "FILES_DIR": VAR / "run-files",
    "SECRETS_KEYS": ["c2hvcC1zaG9wLXNob3Atc2hvcC1zaG9wLXNob3Atc2g="],
    "SWEEP_SECONDS": 1,
    "WORKERS": 2,
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
