"""A progress that nobody watches."""

from typing import Any, cast

from app.cli.console import Progress


class _Quiet:
    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


QUIET = cast(Progress, _Quiet())
