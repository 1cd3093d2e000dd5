"""What was deleted from a SQLite database leaves its files too.

Every connection of ours overwrites what it deletes (`PRAGMA secure_delete`). What the log of changes (WAL) holds of it
is written back and cut off here; the free pages of databases that are older than that are given back by `VACUUM`.
"""

import sqlite3
from contextlib import closing

from app.infra.db.engine import parse_url

_WAIT_MS = 2000
_FREE_SHARE = 0.25
_LEAST_PAGES = 1000
_SMALL_BYTES = 256 << 20  # takes a second or two, for which nobody else writes


def wipe(url: str, *, at_leisure: bool = False, vacuum: bool | None = None) -> bool:
    """Returns whether nothing is left in the log: somebody may be reading from it.

    at_leisure: nobody minds how long it takes. vacuum: whether to; None: where a quarter of the pages is free, and it
    is small or nobody minds.
    """
    path = parse_url(url).database
    assert path is not None
    with closing(sqlite3.connect(path, timeout=_WAIT_MS / 1000, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        try:
            if vacuum if vacuum is not None else _is_worth_it(connection, at_leisure):
                connection.execute("VACUUM")
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError:  # locked: the next time
            return False
    return not busy


def _is_worth_it(connection: sqlite3.Connection, at_leisure: bool) -> bool:
    [[pages]], [[free]], [[size]] = (
        connection.execute(f"PRAGMA {name}").fetchall()
        for name in ("page_count", "freelist_count", "page_size")
    )
    worth = free >= _LEAST_PAGES and free >= pages * _FREE_SHARE
    return bool(worth and (at_leisure or pages * size <= _SMALL_BYTES))
