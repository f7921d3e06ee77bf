"""Settings, read once from the environment and typed. `docs/configuration.md` lists every variable."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from rest import env, values

SVOPS_HOME = env.HOME

# --- Where things are -------------------------------------------------------------------------------------
SVOPS_HOST = env.text("SVOPS_HOST", default="127.0.0.1")
SVOPS_PORT = env.integer("SVOPS_PORT", default=8000, minimum=1, maximum=65535)
AIRFLOW_PORT = env.integer("AIRFLOW_PORT", default=8080, minimum=1, maximum=65535)
AIRFLOW_URL = env.web_address("AIRFLOW_URL", default=f"http://127.0.0.1:{AIRFLOW_PORT}")
AIRFLOW_USERNAME = env.text("AIRFLOW_USERNAME", default="admin")
AIRFLOW_PASSWORD = env.text("AIRFLOW_PASSWORD", default="admin")
AIRFLOW_CONNECT_TIMEOUT = env.seconds("AIRFLOW_CONNECT_TIMEOUT", default=2)
AIRFLOW_READ_TIMEOUT = env.seconds("AIRFLOW_READ_TIMEOUT", default=10)
# Airflow reads and parses all of a log before it sends the first byte: 16 s for 50 MB.
AIRFLOW_LOG_READ_TIMEOUT = env.seconds("AIRFLOW_LOG_READ_TIMEOUT", default=120)
AIRFLOW_LOG_TOTAL_TIMEOUT = env.seconds("AIRFLOW_LOG_TOTAL_TIMEOUT", default=600)
# Together not more than a default Airflow can take: with sixteen parallel lists it answers HTTP 500.
AIRFLOW_POOL_CONTROL = env.integer("AIRFLOW_POOL_CONTROL", default=8, minimum=1, maximum=100)
AIRFLOW_POOL_LOOKS = env.integer("AIRFLOW_POOL_LOOKS", default=4, minimum=1, maximum=100)
AIRFLOW_POOL_LOGS = env.integer("AIRFLOW_POOL_LOGS", default=3, minimum=1, maximum=100)
AIRFLOW_POOL_WAIT = env.seconds("AIRFLOW_POOL_WAIT", default=3)

# --- Who SVOps is for Airflow, and what lies between: docs/airflows.md ---------------------------------------
AIRFLOW_AUTH = env.choice(
    "AIRFLOW_AUTH", default="password", choices=("password", "token", "oauth2", "google", "mwaa", "command")
)
AIRFLOW_TOKEN, AIRFLOW_TOKEN_FILE = env.text_or_file("AIRFLOW_TOKEN")
AIRFLOW_OAUTH2_TOKEN_URL = env.secure_url("AIRFLOW_OAUTH2_TOKEN_URL")
AIRFLOW_OAUTH2_CLIENT_ID = env.text("AIRFLOW_OAUTH2_CLIENT_ID")
AIRFLOW_OAUTH2_CLIENT_SECRET = env.text("AIRFLOW_OAUTH2_CLIENT_SECRET")
AIRFLOW_OAUTH2_SCOPE = env.text("AIRFLOW_OAUTH2_SCOPE")
AIRFLOW_OAUTH2_AUDIENCE = env.text("AIRFLOW_OAUTH2_AUDIENCE")
AIRFLOW_OAUTH2_METHOD = env.choice(
    "AIRFLOW_OAUTH2_METHOD",
    default="client_secret_basic",
    choices=("client_secret_basic", "client_secret_post", "airflow"),
)
AIRFLOW_GOOGLE_CREDENTIALS = env.file("AIRFLOW_GOOGLE_CREDENTIALS")
AIRFLOW_GOOGLE_AUDIENCE = env.text("AIRFLOW_GOOGLE_AUDIENCE")
AIRFLOW_MWAA_ENVIRONMENT = env.text("AIRFLOW_MWAA_ENVIRONMENT")
AIRFLOW_MWAA_REGION = env.text("AIRFLOW_MWAA_REGION")
AIRFLOW_MWAA_METHOD = env.choice("AIRFLOW_MWAA_METHOD", default="web_token", choices=("web_token", "invoke_rest_api"))
AIRFLOW_TOKEN_COMMAND = env.program("AIRFLOW_TOKEN_COMMAND")
AIRFLOW_TOKEN_COMMAND_ENV = env.items("AIRFLOW_TOKEN_COMMAND_ENV")
AIRFLOW_TOKEN_TIMEOUT = env.seconds("AIRFLOW_TOKEN_TIMEOUT", default=10)
AIRFLOW_HEADERS = env.headers("AIRFLOW_HEADERS")
AIRFLOW_CA_FILE = env.authorities("AIRFLOW_CA_FILE")
AIRFLOW_CLIENT_KEY = env.file("AIRFLOW_CLIENT_KEY")
AIRFLOW_CLIENT_CERT = env.certificate("AIRFLOW_CLIENT_CERT", key=AIRFLOW_CLIENT_KEY)
AIRFLOW_PROXY = env.web_address("AIRFLOW_PROXY", may_have_user=True)
AIRFLOW_MAX_REQUESTS_PER_SECOND = env.per_second("AIRFLOW_MAX_REQUESTS_PER_SECOND")

# Further ones. `manage.py load_airflows` reads it.
AIRFLOWS_FILE = env.file("AIRFLOWS_FILE")


def _missing_for_airflow() -> str:
    """Return what the chosen way to Airflow lacks, as one sentence."""
    needed: dict[str, dict[str, object]] = {
        "token": {"AIRFLOW_TOKEN or AIRFLOW_TOKEN_FILE": AIRFLOW_TOKEN},
        "oauth2": {
            "AIRFLOW_OAUTH2_TOKEN_URL": AIRFLOW_OAUTH2_METHOD == "airflow" or AIRFLOW_OAUTH2_TOKEN_URL,
            "AIRFLOW_OAUTH2_CLIENT_ID": AIRFLOW_OAUTH2_CLIENT_ID,
            "AIRFLOW_OAUTH2_CLIENT_SECRET": AIRFLOW_OAUTH2_CLIENT_SECRET,
        },
        "mwaa": {"AIRFLOW_MWAA_ENVIRONMENT": AIRFLOW_MWAA_ENVIRONMENT},
        "command": {"AIRFLOW_TOKEN_COMMAND": AIRFLOW_TOKEN_COMMAND},
    }
    # `make up` starts an Airflow that has a user and a password.
    address: dict[str, object] = {} if AIRFLOW_AUTH == "password" else {"AIRFLOW_URL": env.text("AIRFLOW_URL")}
    if AIRFLOW_AUTH == "password" and not env.text("AIRFLOW_AUTH"):
        for way, variables in needed.items():
            if given := [name for name, value in variables.items() if value and value is not True]:
                return f"{given[0]} is set and AIRFLOW_AUTH is not: AIRFLOW_AUTH={way} is expected"
    missing = [name for name, value in (address | needed.get(AIRFLOW_AUTH, {})).items() if not value]
    if missing:
        return f"AIRFLOW_AUTH={AIRFLOW_AUTH} needs {missing[0]}, which is not set or empty"
    if AIRFLOW_AUTH == "token" and not (AIRFLOW_TOKEN.isascii() and AIRFLOW_TOKEN.isprintable()):
        return "AIRFLOW_TOKEN must be one line of printable ASCII"
    library = {"google": "google.auth", "mwaa": "botocore"}.get(AIRFLOW_AUTH)
    if library and not values.is_installed(library):
        return f"AIRFLOW_AUTH={AIRFLOW_AUTH} needs more libraries: install those of requirements-ways.txt"
    return ""


if why := _missing_for_airflow():
    raise ImproperlyConfigured(why)

_redis_host = env.text("REDIS_HOST", default="127.0.0.1")
_redis_port = env.integer("REDIS_PORT", default=6379, minimum=1, maximum=65535)
REDIS_URL = env.url("REDIS_URL", default=f"redis://{_redis_host}:{_redis_port}/0", schemes=("redis", "rediss", "unix"))


def _database_url() -> str:
    if url := env.url("DATABASE_URL", default="", schemes=("sqlite", "postgres", "postgresql")):
        return url
    if server := env.text("POSTGRES_SERVER"):
        user, password = (
            quote(env.text("POSTGRES_USER", default="svops")),
            quote(env.text("POSTGRES_PASSWORD"), safe=""),
        )
        return f"postgresql://{user}:{password}@{server}/{env.text('POSTGRES_DB', default='svops')}"
    return ""


# The embedded set-up is the one of `make up` on a bare machine: SQLite below SVOPS_HOME.
EMBEDDED = not _database_url()
DATABASES: dict[str, Any] = {
    "default": dj_database_url.parse(_database_url() or f"sqlite:///{SVOPS_HOME / 'svops.sqlite3'}")
}
_options = DATABASES["default"].setdefault("OPTIONS", {})
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    _options |= {
        # A transaction takes the write lock when it begins: a later upgrade from reading to writing would
        # fail at once with "database is locked", however long the timeout.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    # A file in the tests too: in memory, SQLite has no second writer.
    DATABASES["default"]["TEST"] = {"NAME": str(SVOPS_HOME / "test.sqlite3")}
else:
    # Synchronous views run in threads under ASGI: a pool bounds their connections, CONN_MAX_AGE would not.
    _pool_size = env.integer("DATABASE_POOL_SIZE", default=20, minimum=1)
    # A pool doubles the wait between its tries, up to minutes. After this many seconds it gives up, and the next query
    # tries at once: after an outage of any length the processes are back within seconds.
    _options["pool"] = {"min_size": 1, "max_size": _pool_size, "timeout": 10, "reconnect_timeout": 2}
# A connection is tried before it is used: after a restart of the database those of the pool are dead.
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["default"]["CONN_MAX_AGE"] = 0

# --- Security ---------------------------------------------------------------------------------------------
if EMBEDDED:
    env.private_home()
SECRET_KEY = env.secret_key("SECRET_KEY", embedded=EMBEDDED)
# Encryption at rest: the first key encrypts, every key decrypts. Defaults to SECRET_KEY.
SECRET_KEYS = env.items("SECRET_KEYS") or [SECRET_KEY]
DEBUG = env.boolean("DEBUG", default=False)
ALLOWED_HOSTS = env.items("ALLOWED_HOSTS", default=("127.0.0.1", "localhost", "[::1]") if EMBEDDED else ())
CSRF_FAILURE_VIEW = "rest.error_responses.forged"
CSRF_TRUSTED_ORIGINS = env.items("CSRF_TRUSTED_ORIGINS")
# Pages of other origins that may call the API with a token or a ticket, never with our cookies: svops/cross_origin.py.
CORS_ALLOWED_ORIGINS = env.origins("CORS_ALLOWED_ORIGINS")
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_CREDENTIALS = False
CORS_ALLOW_METHODS = ("GET", "POST", "PATCH", "DELETE", "OPTIONS")
CORS_ALLOW_HEADERS = (
    "accept", "authorization", "content-type", "idempotency-key", "if-none-match", "last-event-id", "prefer",
    "x-request-id",
)  # fmt: skip
CORS_EXPOSE_HEADERS = (
    "Location", "Retry-After", "X-Request-ID", "Idempotent-Replayed", "ETag", "Preference-Applied", "WWW-Authenticate",
    "Content-Disposition", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset",
)  # fmt: skip
CORS_PREFLIGHT_MAX_AGE = 600
HTTPS = env.boolean("HTTPS", default=False)
SECURE_SSL_REDIRECT = HTTPS
# Health checks, Prometheus and Airflow's signed pushes do not come through the TLS proxy.
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics|api/v1/ingest(/[^/]+)?)/?$"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = env.integer("HSTS_SECONDS", default=0)
# These two bind other hosts than this one, and for a long time: who owns the domain decides.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.boolean("HSTS_SUBDOMAINS", default=False)
SECURE_HSTS_PRELOAD = env.boolean("HSTS_PRELOAD", default=False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # they ask for these two
TRUST_PROXY = env.proxies("TRUST_PROXY")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUST_PROXY else None
SESSION_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = env.integer("MAX_BODY_BYTES", default=1_000_000, minimum=1024)
# What `svops.server` accepts before it knows who asks.
REQUEST_HEAD_BYTES = env.integer("REQUEST_HEAD_BYTES", default=32_768, minimum=4096)
REQUEST_HEAD_TIMEOUT = env.seconds("REQUEST_HEAD_TIMEOUT", default=10)
REQUEST_BODY_TIMEOUT = env.seconds("REQUEST_BODY_TIMEOUT", default=30)
RESPONSE_STALL_TIMEOUT = env.seconds("RESPONSE_STALL_TIMEOUT", default=60)
# closed: only admins build workflows, until a rule opens a DAG to somebody.
DAG_ACCESS = env.choice("DAG_ACCESS", default="open" if EMBEDDED else "closed", choices=("open", "closed"))
REGISTRATION = env.choice("REGISTRATION", default="open" if EMBEDDED else "closed", choices=("open", "closed"))

# The head of the audit trail, where the database cannot reach: somebody who cuts the trail cannot change it.
AUDIT_HEAD_FILE = env.text("AUDIT_HEAD_FILE", default=str(SVOPS_HOME / "audit-head") if EMBEDDED else "off")
AUDIT_WEBHOOK_URL = env.secure_url("AUDIT_WEBHOOK_URL")

# --- Single sign-on: off until there is an issuer -----------------------------------------------------------
OIDC_ISSUER = env.secure_url("OIDC_ISSUER")
OIDC_CLIENT_ID = env.text("OIDC_CLIENT_ID")
OIDC_CLIENT_SECRET = env.text("OIDC_CLIENT_SECRET")
OIDC_NAME = env.text("OIDC_NAME", default="single sign-on")
OIDC_SCOPES = env.text("OIDC_SCOPES", default="openid profile email")
OIDC_USERNAME_CLAIM = env.text("OIDC_USERNAME_CLAIM", default="preferred_username")
OIDC_ROLE_CLAIM = env.text("OIDC_ROLE_CLAIM")
OIDC_ADMIN_VALUES = env.items("OIDC_ADMIN_VALUES")
OIDC_USER_VALUES = env.items("OIDC_USER_VALUES")
OIDC_DEFAULT_ROLE = env.choice("OIDC_DEFAULT_ROLE", default="user", choices=("user", "viewer"))
OIDC_TIMEOUT = env.seconds("OIDC_TIMEOUT", default=5)

# --- Django -----------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    # Daphne replaces runserver with an ASGI server. Elsewhere it would only cost the import of Twisted.
    *(["daphne"] if DEBUG else []),
    "svops.admin_site.SiteConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "django_filters",
    "django_celery_beat",
    "django_guid",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "svops",
    "accounts",
    "workflows",
    "notifications",
    "console",
]
MIDDLEWARE = [
    "svops.headers.probed_by_address",
    "django.middleware.security.SecurityMiddleware",
    "svops.headers.own_files_only",
    "django_guid.middleware.guid_middleware",
    "svops.static.versioned_files",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "rest.middleware.never_stored",
    "rest.middleware.one_error_shape",
    "accounts.limits.rate_headers",
    "accounts.turns.turns",
    "rest.middleware.optional_trailing_slash",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.sessions.touch",
    "accounts.audit.remember_request",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "svops.urls"
ASGI_APPLICATION = "svops.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "accounts.oidc.offered",
            ]
        },
    }
]
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.GuardedBackend"]
RATE_LIMIT_API = env.rate("RATE_LIMIT_API", default="1200/minute")
RATE_LIMIT_AUTH = env.rate("RATE_LIMIT_AUTH", default="30/minute")
RATE_LIMIT_INGEST = env.rate("RATE_LIMIT_INGEST", default="600/minute")
RATE_LIMIT_STREAM = env.rate("RATE_LIMIT_STREAM", default="600/minute")
RATE_LIMIT_TEST = env.rate("RATE_LIMIT_TEST", default="20/hour")
RATE_LIMIT_RECIPIENT = env.rate("RATE_LIMIT_RECIPIENT", default="6/hour")
API_KEYS_PER_USER = env.integer("API_KEYS_PER_USER", default=25, minimum=1)
REQUESTS_AT_ONCE = env.integer("REQUESTS_AT_ONCE", default=4, minimum=1)
BUSY_SHARE = env.share("BUSY_SHARE", default=0.25)
LOGIN_ATTEMPTS = env.integer("LOGIN_ATTEMPTS", default=5)
LOGIN_ATTEMPTS_ACCOUNT = env.integer("LOGIN_ATTEMPTS_ACCOUNT", default=20)
PASSWORD_MIN_LENGTH = env.integer("PASSWORD_MIN_LENGTH", default=12, minimum=8, maximum=128)
AUTH_PASSWORD_VALIDATORS: list[dict[str, Any]] = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": PASSWORD_MIN_LENGTH},
    },
    {"NAME": "accounts.password_rules.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
# A session ends after so long without a request, and in any case so long after the sign-in.
SESSION_ENGINE = "accounts.sessions"
SESSION_IDLE_SECONDS = env.integer("SESSION_IDLE_SECONDS", default=43200, minimum=60)
SESSION_ABSOLUTE_SECONDS = env.integer("SESSION_ABSOLUTE_SECONDS", default=2592000, minimum=60)
SESSION_COOKIE_AGE = SESSION_IDLE_SECONDS
SECOND_FACTOR_ADMINS = env.boolean("SECOND_FACTOR_ADMINS", default=False)
ACCOUNT_NOTICES = env.boolean("ACCOUNT_NOTICES", default=not EMBEDDED)
LOGIN_URL = "/login"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
APPEND_SLASH = True
STATIC_URL = "static/"
# Static files are served from their apps: nothing has to be collected before the first start.
WHITENOISE_USE_FINDERS = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "svops.static.VersionedFiles"},
}

# --- Redis: channel layer, broker; losing it loses no run and no event ---------------------------------------
CHANNEL_LAYERS: dict[str, Any] = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # A reader of the layer waits for as long as nothing happens; redis-py 8 would end it after 5 s.
        "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_connect_timeout": 2, "socket_timeout": None}]},
    }
}
CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
# Only beat sends tasks. It sends each one again, and each may be repeated or missed. So a message is gone when a worker
# has taken it. If Redis kept it until the task has ended, a worker that loses Redis meanwhile would end (kombu 5.7).
CELERY_BROKER_TRANSPORT_OPTIONS = {"ack_emulation": False}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "svops.beat:PatientScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 1
BEAT_FILE = env.text("BEAT_FILE")
DJANGO_CELERY_BEAT_TZ_AWARE = True

# --- REST API ---------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.permissions.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["accounts.limits.RateThrottle", "accounts.turns.TurnThrottle"],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "rest_framework.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_PARSER_CLASSES": ["rest.parsers.SoundJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "rest.negotiation.Negotiation",
    "DEFAULT_PAGINATION_CLASS": "rest.pages.Pages",
    "DEFAULT_FILTER_BACKENDS": [
        "rest.filters.Filters",
        "rest.filters.Ordering",
    ],
    "DEFAULT_SCHEMA_CLASS": "rest.description.ApiSchema",
    "EXCEPTION_HANDLER": "rest.error_responses.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(seconds=env.seconds("ACCESS_TOKEN_SECONDS", default=900)),
    "REFRESH_TOKEN_LIFETIME": timedelta(seconds=env.seconds("REFRESH_TOKEN_SECONDS", default=7 * 86400)),
    "ALGORITHM": "HS256",
    "AUDIENCE": "svops",
    "ISSUER": "svops",
    "USER_ID_CLAIM": "sub",
}
TICKET_MAX_SECONDS = env.seconds("TICKET_MAX_SECONDS", default=900)
SPECTACULAR_SETTINGS = {
    "TITLE": "SVOps",
    "DESCRIPTION": "Define workflows over Airflow DAGs, trigger them, watch them live, stop and retry them.",
    "VERSION": "1",
    "SERVERS": [{"url": "/", "description": "This installation."}],
    "LICENSE": {"name": "MIT"},
    "TAGS": [
        {"name": "auth", "description": "Signing in, and the account of the caller."},
        {"name": "users", "description": "Accounts, for administrators."},
        {"name": "api-keys", "description": "Keys for programs."},
        {"name": "tickets", "description": "Short-lived access to one run."},
        {"name": "audit", "description": "Who did what."},
        {"name": "airflows", "description": "The Airflows behind SVOps."},
        {"name": "dags", "description": "The DAGs of Airflow, as SVOps mirrors them."},
        {"name": "dag-rules", "description": "Who may build on which DAG."},
        {"name": "workflows", "description": "DAGs under a name, their grants and their runs."},
        {"name": "runs", "description": "Runs of all workflows."},
        {"name": "events", "description": "The log of everything that happened."},
        {"name": "notifications", "description": "Who hears about an event, and the ledger of deliveries."},
        {"name": "root", "description": "Where everything is."},
    ],
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "GET_LIB_DOC_EXCLUDES": "rest.schema.bases_without_docs",
    "OAS_VERSION": "3.1.1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "workflows.api.event_schema.declare_events",
        "rest.schema.add_common_errors",
        "workflows.api.stream_schema.declare_streams",
        "rest.description.as_clients_need_it",
    ],
    # Generators make types of these names.
    "ENUM_SUFFIX": "",
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "RunState": "workflows.states.RunState",
        "ResultState": "workflows.models.ResultState",
        "TriggerType": "workflows.models.TriggerType",
        "Visibility": "workflows.models.Visibility",
        "GrantLevel": "workflows.models.Level",
        "DagLevel": "workflows.dagrules.DagLevel",
        "DagMatch": "workflows.dagrules.DagMatch",
        "ControlAction": "workflows.api.inputs.ACTIONS",
        "RetryMode": "workflows.services.RETRY_MODES",
        "PauseScope": "workflows.api.inputs.PAUSE_SCOPES",
        "WhoCanAct": "workflows.explain.WHO",
        "AirflowAuth": "workflows.airflow.access.NAMES",
        "EventType": "workflows.eventlog.events.CATALOGUE",
        "NotificationType": "notifications.services.TYPES",
        "NotificationChannel": "notifications.transports.CHANNELS",
        "OfferedChannel": "notifications.api.inputs.OFFERED_CHANNELS",
        "DeliveryStatus": "notifications.models.Status",
        "DeliveryKind": "notifications.models.Kind",
        "AttemptOutcome": "notifications.models.Outcome",
        "Role": "accounts.models.Role",
        "Scope": "accounts.api.serializers.SCOPES",
        "TicketAction": "workflows.api.inputs.TICKET_ACTIONS",
    },
    "PATH_CONVERTER_OVERRIDES": {"id": {"type": "string", "format": "uuid"}},
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
DJANGO_GUID = {"GUID_HEADER_NAME": "X-Request-ID", "VALIDATE_GUID": True, "RETURN_HEADER": True}

# --- SVOps ------------------------------------------------------------------------------------------------
# Called with each event inside the transaction that records it; producers do not know their consumers.
EVENT_SINKS: list[str] = ["notifications.sinks.create_deliveries"]
# Returns the ids that are no workflow visible to a user. API keys name workflows, but accounts know none.
UNSEEN_WORKFLOWS = "workflows.access.unseen"
# Shared with plugins/svops_listener.py in Airflow; without it, pushes are refused and polling does it all.
INGEST_SECRET = env.text("SVOPS_INGEST_SECRET")
# Where Airflow's listener pushes to; here only the doctor uses it.
SVOPS_INGEST_URL = env.url(
    "SVOPS_INGEST_URL", default=f"http://127.0.0.1:{SVOPS_PORT}/api/v1/ingest", schemes=("http", "https")
)
RECONCILE_OVERLAP = env.seconds("RECONCILE_OVERLAP", default=10)
SWEEP_INTERVAL = env.seconds("SWEEP_INTERVAL", default=60)
DELETIONS_DAYS = env.integer("DELETIONS_DAYS", default=7)
STALE_AFTER = env.seconds("STALE_AFTER", default=20)
SEARCH_DEADLINE = env.seconds("SEARCH_DEADLINE", default=2)
# As JSON, with the defaults of the workflow.
PARAMETERS_MAX_BYTES = env.integer("PARAMETERS_MAX_BYTES", default=65_536, minimum=1024)
# Seconds that a request waits for the end of a run at most. A proxy in front has to wait longer.
WAIT_MAX = env.integer("WAIT_MAX", default=60, minimum=1)
# Of the result of a run, as JSON. It is in events, on streams and in webhooks too.
RESULT_MAX_BYTES = env.integer("RESULT_MAX_BYTES", default=65_536, minimum=1024)
DISPATCH_BUDGET = env.seconds("DISPATCH_BUDGET", default=3)
BREAKER_FAILURES = env.integer("BREAKER_FAILURES", default=5, minimum=1)
BREAKER_RESET = env.seconds("BREAKER_RESET", default=5)
DISPATCH_DEADLINE = env.seconds("DISPATCH_DEADLINE", default=24 * 3600)
DISPATCH_LEASE = env.seconds("DISPATCH_LEASE", default=40)
STOP_DEADLINE = env.seconds("STOP_DEADLINE", default=60)
STOP_SETTLE = env.seconds("STOP_SETTLE", default=5)
STOP_SILENCE = env.seconds("STOP_SILENCE", default=600)
# Retention; 0 days keeps for ever. Runs go when their events have gone.
KEEP_EVENTS_DAYS = env.integer("KEEP_EVENTS_DAYS", default=90)
KEEP_RUNS_DAYS = env.integer("KEEP_RUNS_DAYS", default=365)
KEEP_COMMANDS_DAYS = env.integer("KEEP_COMMANDS_DAYS", default=30, minimum=1)
KEEP_IDEMPOTENCY_KEYS_HOURS = env.integer("KEEP_IDEMPOTENCY_KEYS_HOURS", default=48, minimum=24)
METRICS_TOKEN = env.text("METRICS_TOKEN")
# Shows its bearer, beside administrators, which of the checks of /readyz fail and why.
READY_TOKEN = env.text("READY_TOKEN")
SHARED_ANSWER_SECONDS = env.integer("SHARED_ANSWER_SECONDS", default=2)
STREAM_HEARTBEAT = env.seconds("STREAM_HEARTBEAT", default=20)
STREAM_AUTH_TIMEOUT = env.seconds("STREAM_AUTH_TIMEOUT", default=10)
STREAM_QUEUE_BYTES = env.integer("STREAM_QUEUE_BYTES", default=4_000_000, minimum=10_000)
STREAM_MESSAGE_BYTES = env.integer("STREAM_MESSAGE_BYTES", default=16_384, minimum=256)
STREAMS_PER_USER = env.integer("STREAMS_PER_USER", default=200, minimum=1)
STREAM_MESSAGES_PER_MINUTE = env.integer("STREAM_MESSAGES_PER_MINUTE", default=300, minimum=1)
USER_MESSAGES_PER_MINUTE = env.integer("USER_MESSAGES_PER_MINUTE", default=1200, minimum=1)
STREAM_LANES = env.integer("STREAM_LANES", default=3, minimum=1)
STREAM_UNSIGNED = env.integer("STREAM_UNSIGNED", default=1000, minimum=1)
STREAM_UNSIGNED_PER_ADDRESS = env.integer("STREAM_UNSIGNED_PER_ADDRESS", default=100, minimum=1)
LOG_FOLLOWERS = env.integer("LOG_FOLLOWERS", default=200, minimum=1)
LOG_FOLLOWERS_PER_USER = env.integer("LOG_FOLLOWERS_PER_USER", default=10, minimum=1)
LOG_WAIT = env.seconds("LOG_WAIT", default=4)
LOG_REFRESH = env.seconds("LOG_REFRESH", default=1)
LOG_CACHE_DIR = env.text("LOG_CACHE_DIR")
LOG_CACHE_BYTES = env.integer("LOG_CACHE_BYTES", default=1_000_000_000, minimum=1_000_000)
LOG_COPY_BYTES = env.integer("LOG_COPY_BYTES", default=250_000_000, minimum=100_000)
STREAM_SUBSCRIPTIONS = env.integer("STREAM_SUBSCRIPTIONS", default=100, minimum=1)

# --- Notifications ----------------------------------------------------------------------------------------
PUBLIC_URL = env.url("PUBLIC_URL", default=f"http://{SVOPS_HOST}:{SVOPS_PORT}", schemes=("http", "https"))
NOTIFICATION_ALLOWED_NETWORKS = env.networks("NOTIFICATION_ALLOWED_NETWORKS")
NOTIFICATION_TIMEOUT = env.seconds("NOTIFICATION_TIMEOUT", default=15)
NOTIFICATION_LEASE = env.seconds("NOTIFICATION_LEASE", default=90)
NOTIFICATION_APPRISE_WORKERS = env.integer("NOTIFICATION_APPRISE_WORKERS", default=2, minimum=1, maximum=50)
NOTIFICATION_SLOTS = env.integer("NOTIFICATION_SLOTS", default=32, minimum=1, maximum=500)
NOTIFICATION_DIGEST_INTERVAL = env.seconds("NOTIFICATION_DIGEST_INTERVAL", default=3600)
NOTIFICATION_OVERDUE = env.seconds("NOTIFICATION_OVERDUE", default=120)
# Recipients of e-mail in these domains need not agree first.
NOTIFICATION_EMAIL_DOMAINS = [domain.lower() for domain in env.items("NOTIFICATION_EMAIL_DOMAINS")]
NOTIFICATION_LINK_SECONDS = env.seconds("NOTIFICATION_LINK_SECONDS", default=3 * 86400)
NOTIFICATION_LINKS_PER_DAY = env.integer("NOTIFICATION_LINKS_PER_DAY", default=20, minimum=1)
NOTIFICATION_RETENTION = env.seconds("NOTIFICATION_RETENTION", default=90 * 86400)
EMAIL_HOST = env.text("EMAIL_HOST", default="localhost")
EMAIL_PORT = env.integer("EMAIL_PORT", default=25, minimum=1, maximum=65535)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env.boolean("EMAIL_USE_TLS", default=False)
EMAIL_USE_SSL = env.boolean("EMAIL_USE_SSL", default=False)
EMAIL_TIMEOUT = NOTIFICATION_TIMEOUT
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", default="svops@localhost")

if EMAIL_USE_TLS and EMAIL_USE_SSL:
    raise ImproperlyConfigured("EMAIL_USE_TLS and EMAIL_USE_SSL are both true: one of them is expected")
if OIDC_ISSUER and not OIDC_CLIENT_ID:
    raise ImproperlyConfigured("OIDC_ISSUER is set and OIDC_CLIENT_ID is not: both are expected")
if "openid" not in OIDC_SCOPES.split():
    raise ImproperlyConfigured(f"OIDC_SCOPES={OIDC_SCOPES!r} must have openid among the scopes, divided by spaces")
if bool(OIDC_ROLE_CLAIM) != bool(OIDC_ADMIN_VALUES or OIDC_USER_VALUES):
    raise ImproperlyConfigured(
        "OIDC_ROLE_CLAIM goes with OIDC_ADMIN_VALUES or OIDC_USER_VALUES: a claim, and which of its values count"
    )
if LOG_COPY_BYTES > LOG_CACHE_BYTES:
    raise ImproperlyConfigured("LOG_COPY_BYTES is more than LOG_CACHE_BYTES: one log would not fit")
if SVOPS_PORT == AIRFLOW_PORT:
    raise ImproperlyConfigured(f"SVOPS_PORT and AIRFLOW_PORT are both {SVOPS_PORT}: two different ports are expected")

# --- Logs -------------------------------------------------------------------------------------------------
LOG_LEVEL = env.choice("LOG_LEVEL", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOG_FORMAT = env.choice("LOG_FORMAT", default="text" if EMBEDDED else "json", choices=("json", "text"))
# Warnings of Python go the way of every other line, so that each line is one of the format.
logging.captureWarnings(LOG_FORMAT == "json")
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "request_id": {"()": "django_guid.log_filters.CorrelationId", "correlation_id_field": "request_id"},
        "without_secrets": {"()": "svops.logging.WithoutSecrets"},
        "without_trace": {"()": "svops.logging.WithoutTrace"},
        "refusals_warn": {"()": "svops.logging.RefusalsWarn"},
    },
    "formatters": {"json": {"()": "svops.logging.JsonLines"}, "text": {"()": "svops.logging.TextLines"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": LOG_FORMAT,
            "filters": ["request_id", "without_secrets"],
        }
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django_guid": {"level": "WARNING"},
        "django.request": {"filters": ["refusals_warn"]},
        # They work without Redis, and would log each failed call with its traceback.
        "pybreaker": {"filters": ["without_trace"]},
        "channels_redis.pubsub": {"filters": ["without_trace"]},
        # What they tell at DEBUG has tokens in it.
        "authlib": {"level": "WARNING"},
        "botocore": {"level": "WARNING"},
        "google.auth": {"level": "WARNING"},
        # One line per tick would hide everything else.
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        # Uvicorn gives these two handlers of their own; an empty list takes them away again.
        "uvicorn": {"level": LOG_LEVEL, "handlers": [], "propagate": True},
        "uvicorn.access": {"level": LOG_LEVEL, "handlers": [], "propagate": True},
        "uvicorn.error": {"level": LOG_LEVEL},
    },
}

# The runner passes these to SVOps' own processes, and nothing else of the operator's environment.
VARIABLES_READ = env.names_read()
