"""Our log: one JSON object a line, with the ids of the request, and without what customers wrote."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.types import Processor

REMOVED = "[removed]"
# Fields that hold what people wrote, or secrets, wherever they stand in an event.
_NEVER = frozenset(
    {
        "answer", "authorization", "body", "completion", "content", "conversation", "draft", "evidence",
        "input", "messages", "password", "prompt", "quote", "reasoning", "secret", "text", "token",
    }
)  # fmt: skip
_PATTERNS = (
    (re.compile(r"sw_(\w{1,16})_\w+"), r"sw_\1_[removed]"),
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"), REMOVED),
    (re.compile(r"(?<![\w-])\d{13,19}(?![\w-])"), REMOVED),  # payment cards
    (re.compile(r"://([^:/@\s]+):[^@/\s]+@"), r"://\1:[removed]@"),  # passwords in URLs
    # Libraries put values into their messages: Pydantic, SQLAlchemy, and PostgreSQL's DETAIL lines.
    (re.compile(r"input_value=.*?, input_type"), f"input_value={REMOVED}, input_type"),
    (re.compile(r"\[parameters: .*?\]$", re.MULTILINE), f"[parameters: {REMOVED}]"),
    (re.compile(r"^(DETAIL: +).*$", re.MULTILINE), rf"\1{REMOVED}"),
)  # fmt: skip


def configure(level: str = "INFO") -> None:
    """Our events and those of the standard library's loggers go to standard error, in one form."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # without local variables: those hold what customers wrote
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every call to vLLM
    # Two lines for every look at the database's version. Whoever migrates configures another log.
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True  # app.http.middleware writes that line, with ids


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if not name.startswith("_"):  # structlog's own record
            event[name] = _clean(name, value)
    return event


def _clean(name: str, value: Any) -> Any:
    if name.lower() in _NEVER:
        return REMOVED
    match value:
        case str():
            for pattern, put in _PATTERNS:
                value = pattern.sub(put, value)
            return value
        case dict():
            return {key: _clean(str(key), inner) for key, inner in value.items()}
        case list() | tuple():
            return [_clean(name, inner) for inner in value]
        case BaseException():
            return _clean(name, repr(value))
    return value
