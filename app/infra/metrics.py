"""What Prometheus may read, in base units. No tenant is a label: there may be thousands of them."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, start_http_server
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

REGISTRY = CollectorRegistry()
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REQUESTS = Histogram(
    "steerwise_http_request_duration_seconds",
    "From the request's head to the end of its answer.",
    ("method", "route", "status"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
ANSWERS = Counter(
    "steerwise_answers", "Conversations answered, by what became of them.", ("outcome",), registry=REGISTRY
)
DEGRADED = Counter(
    "steerwise_degraded_answers", "Given by something else than the deployed model.", registry=REGISTRY
)
ANSWERS_KEPT = Counter("steerwise_kept_answers", "Stored, as their tenants want it.", registry=REGISTRY)
ANSWERS_NOT_KEPT = Counter(
    "steerwise_answers_not_kept",
    "Given, and lost to their tenants' store: no room was left (full), or none in the tenant's quota (quota), it took "
    "one of them not (refused), or the process ended while it was away (ended).",
    ("reason",),
    registry=REGISTRY,
)
MODEL_SECONDS = Histogram(
    "steerwise_model_duration_seconds",
    "One conversation at the model server.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
TOKENS = Counter("steerwise_model_tokens", "As the model server counted them.", ("kind",), registry=REGISTRY)
MODEL_FAILURES = Counter(
    "steerwise_model_failures", "Conversations that no model server answered.", registry=REGISTRY
)

LEASES_LOST = Counter(
    "steerwise_job_leases_lost",
    "Running jobs whose worker fell silent, by kind.",
    ("kind",),
    registry=REGISTRY,
)
TRIGGERS = Counter(
    "steerwise_trigger_checks",
    "Of triggers, by kind and by what came of it.",
    ("kind", "outcome"),
    registry=REGISTRY,
)
DISPATCH_ROUNDS = Counter("steerwise_dispatch_rounds", "Of the dispatcher, done.", registry=REGISTRY)
DISPATCH_INTERRUPTED = Counter(
    "steerwise_dispatch_interruptions", "Steps that did not come to their end.", ("step",), registry=REGISTRY
)


def request_ended(method: str, route: str | None, status: int | None, passed_s: float) -> None:
    """route: None where no endpoint was found; a caller's own words never become a label."""
    known = method if method in _METHODS else "other"
    _REQUESTS.labels(known, route or "none", status or "none").observe(passed_s)


def expose(host: str, port: int) -> None:
    """From a thread, for processes that answer nobody else."""
    start_http_server(port, addr=host, registry=REGISTRY)


def exposed() -> bytes:
    return generate_latest(REGISTRY)
