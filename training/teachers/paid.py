"""What teachers' answers cost, and those that were paid for already. Torch-free."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from training.artifacts import StageFailed
from training.config import EndpointTeacher
from training.protocol import FailureCode


class Reply(NamedTuple):
    """text: empty where it was cut off. Tokens are None where the server did not count them."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None

    @property
    def tokens(self) -> int | None:
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens


class Account:
    """What a stage's teachers have cost. limit_usd: of all of them; None for none."""

    def __init__(self, limit_usd: float | None = None):
        self.limit_usd = limit_usd
        self.usd_by_teacher: dict[str, float] = {}

    @property
    def spent_usd(self) -> float:
        return sum(self.usd_by_teacher.values())

    def is_empty_for(self, teacher: EndpointTeacher) -> bool:
        limits = (
            (self.limit_usd, self.spent_usd),
            (teacher.max_usd, self.usd_by_teacher.get(teacher.called, 0.0)),
        )
        return any(limit is not None and spent >= limit for limit, spent in limits)

    def pay(self, teacher: EndpointTeacher, reply: Reply) -> None:
        """Raises: StageFailed where there is a limit that cannot be kept, because nobody counts."""
        if reply.prompt_tokens is None or reply.completion_tokens is None:
            if self.limit_usd is not None or teacher.max_usd is not None:
                raise StageFailed(
                    FailureCode.teacher_refused,
                    f"{teacher.called} does not say how many tokens it used, so max_usd cannot be kept; leave it out "
                    "and limit conversations instead (limit, samples)",
                )
            return
        usd = reply.prompt_tokens * teacher.prompt_usd_per_million / 1e6
        usd += reply.completion_tokens * teacher.completion_usd_per_million / 1e6
        self.usd_by_teacher[teacher.called] = self.usd_by_teacher.get(teacher.called, 0.0) + usd


class PaidAnswers:
    """Replies by everything that they were asked with. They repeat what customers wrote: a file of the tenant's own."""

    def __init__(self, path: Path | None):
        self._path = path
        if path is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(self._open()) as database, database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, reply TEXT NOT NULL)"
                )

    def find(self, question: Mapping[str, Any]) -> Reply | None:
        if self._path is None:
            return None
        with closing(self._open()) as database:
            row = database.execute("SELECT reply FROM answers WHERE key = ?", (_key(question),)).fetchone()
        return None if row is None else Reply(*json.loads(row[0]))

    def keep(self, question: Mapping[str, Any], reply: Reply) -> None:
        if self._path is None:
            return
        with closing(self._open()) as database, database:
            database.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?)", (_key(question), json.dumps(list(reply)))
            )

    def _open(self) -> sqlite3.Connection:
        assert self._path is not None
        return sqlite3.connect(self._path, timeout=30)


def _key(question: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
