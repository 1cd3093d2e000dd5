"""Redis for tests: STEERWISE_TEST_REDIS_URL, else the one that the product itself would start."""

import atexit
import os
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from app.local.redis import embedded_redis
from app.settings import Settings


@cache
def redis_url() -> str:
    """One for this process; it ends with the process. A test empties it before use."""
    if given := os.environ.get("STEERWISE_TEST_REDIS_URL"):
        return given
    stack = ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sw-redis-"))
    return stack.enter_context(embedded_redis(Path(folder) / "redis", Settings())).url
