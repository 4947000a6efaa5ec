"""Settings: read from the environment here, and nowhere else. README.md has the table."""

import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from django.core.exceptions import ImproperlyConfigured
from environs import Env, EnvError, validate

from nexus_project.embedded import addresses
from nexus_project.logs import line_processors, plainly
from streaming.access.limits import DEFAULT_LIMITS
from streaming.valkey.channel_layer import channel_layer_hosts
from streaming.valkey.url import MalformedValkeyUrlError, ValkeyUrl

BASE_DIR = Path(__file__).resolve().parent.parent
env = Env()


def _valkey_url(default: str) -> str:
    url: str = env.str("VALKEY_URL", default)
    try:
        ValkeyUrl.parse(url)
    except MalformedValkeyUrlError as error:
        raise ImproperlyConfigured(str(error)) from None
    return url


# Where Nexus runs and what it talks to

NEXUS_DATA_DIR: Path = Path(env.str("NEXUS_DATA_DIR", "var")).absolute()
NEXUS_HOST: str = env.str("NEXUS_HOST", "127.0.0.1")
NEXUS_PORT: int = env.int("NEXUS_PORT", 8000, validate=validate.Range(min=1, max=65535))

_embedded = addresses.recorded(NEXUS_DATA_DIR)
VALKEY_URL: str = _valkey_url(_embedded.valkey_url or "redis://127.0.0.1:6379/0")
TEMPORAL_ADDRESS: str = env.str("TEMPORAL_ADDRESS", _embedded.temporal_address or "127.0.0.1:7233")
TEMPORAL_NAMESPACE: str = env.str("TEMPORAL_NAMESPACE", "default")
NEXUS_TASK_QUEUE: str = env.str("NEXUS_TASK_QUEUE", "nexus-examples")

NEXUS_HEARTBEAT_SECONDS: float = env.float(
    "NEXUS_HEARTBEAT_SECONDS", 30.0, validate=validate.Range(min=0, min_inclusive=False)
)
NEXUS_CONNECTIONS_PER_PROCESS: int = env.int(
    "NEXUS_CONNECTIONS_PER_PROCESS", DEFAULT_LIMITS.process, validate=validate.Range(min=1)
)
NEXUS_CONNECTIONS_PER_USER: int = env.int(
    "NEXUS_CONNECTIONS_PER_USER", DEFAULT_LIMITS.user, validate=validate.Range(min=1)
)
NEXUS_CONNECTIONS_PER_EXECUTION: int = env.int(
    "NEXUS_CONNECTIONS_PER_EXECUTION", DEFAULT_LIMITS.execution, validate=validate.Range(min=1)
)
NEXUS_DRAIN_SECONDS: float = env.float("NEXUS_DRAIN_SECONDS", 10.0, validate=validate.Range(min=0))
NEXUS_OPEN_READING: bool = env.bool("NEXUS_OPEN_READING", False)

# Django

DEBUG: bool = env.bool("NEXUS_DEBUG", False)
ALLOWED_HOSTS: list[str] = env.list("NEXUS_ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("NEXUS_ALLOWED_ORIGINS", [])


def _own_secret_key(data_dir: Path) -> str:
    """This installation's own key, made at the first start and kept for this user alone."""
    path = data_dir / "secret-key"
    if not path.exists():
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(50))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process of this start was first: its key is the key
        finally:
            draft.unlink()
    return path.read_text()


SECRET_KEY: str = env.str("NEXUS_SECRET_KEY", "") or _own_secret_key(NEXUS_DATA_DIR)

INSTALLED_APPS = [
    "nexus_project",
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "django_filters",
    "rest_framework",
    "servestatic",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "executions",
    "streaming",
    "executions.temporal",
]

MIDDLEWARE = [
    "nexus_project.secure_cookies.SecureCookiesMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "nexus_project.urls"
ASGI_APPLICATION = "nexus_project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def _database() -> dict[str, Any]:
    """DATABASE_URL as Django wants it, with what each engine needs to keep writers in order."""
    try:
        database: dict[str, Any] = env.dj_db_url(
            "DATABASE_URL", f"sqlite:///{NEXUS_DATA_DIR / 'nexus.sqlite3'}"
        )
    except EnvError:
        # Without the cause: it quotes part of a password that holds a slash.
        raise ImproperlyConfigured(
            "DATABASE_URL must be postgresql://user[:password]@host[:port]/name or "
            "sqlite:///path; in a password, write / # ? % @ : as %2F and so on"
        ) from None
    options = database.setdefault("OPTIONS", {})
    if database["ENGINE"].endswith("sqlite3"):
        options.setdefault("transaction_mode", "IMMEDIATE")
        options.setdefault("timeout", 20)
        options.setdefault("init_command", "PRAGMA journal_mode=WAL")
        # Opening the file anew costs more than most of what is read from it.
        database["CONN_MAX_AGE"] = 60
    else:
        database["CONN_MAX_AGE"] = 0
        # A connection that the pool lends may be of before the server's last restart.
        database["CONN_HEALTH_CHECKS"] = True
        # Enough for every thread of a process that uses the database at once.
        options.setdefault("pool", {"min_size": 1, "max_size": 20, "timeout": 10})
    return database


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": channel_layer_hosts(VALKEY_URL)},
    },
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = NEXUS_DATA_DIR / "static"
SERVESTATIC_USE_FINDERS = True

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    # Its challenge makes an anonymous request 401 rather than 403: before the session's.
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "executions.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}

# Tokens of programs, of which the database holds hashes

REST_KNOX = {
    "TOKEN_TTL": timedelta(days=30),
    "TOKEN_PREFIX": "nexus_",
    "TOKEN_LIMIT_PER_USER": 100,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Nexus",
    "DESCRIPTION": "Executions of workflows: the same documents that the streams carry.",
    "VERSION": "1",
    "DEFAULT_GENERATOR_CLASS": "executions.api.openapi.DocumentGenerator",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# Logs: one line a happening

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processors": line_processors(
                env.str("NEXUS_LOG_FORMAT", "line", validate=validate.OneOf(["line", "json"]))
            ),
            "foreign_pre_chain": [
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
            ],
        },
    },
    "filters": {"plainly": {"()": lambda: plainly}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["plainly"]},
    },
    "root": {"handlers": ["console"], "level": env.str("NEXUS_LOG_LEVEL", "WARNING")},
}

structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
