"""W3C Trace Context: which trace a request belongs to, handed on to what it calls and written into its log lines."""

import re
import secrets
from typing import NamedTuple

HEADER = "traceparent"
# A later version may have more after the flags; "ff" is none.
_PARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)


class RequestTrace(NamedTuple):
    trace_id: str
    flags: str

    def traceparent(self) -> str:
        """For one call of ours; another one each time."""
        return f"00-{self.trace_id}-{secrets.token_hex(8)}-{self.flags}"


def trace_of(traceparent: str | None) -> RequestTrace:
    """The caller's, or a new one where it named none that can be read."""
    found = _PARENT.fullmatch(traceparent or "")
    if found is None or (found[1] == "00" and found[5]):
        return RequestTrace(secrets.token_hex(16), "00")
    return RequestTrace(found[2], "01" if int(found[4], 16) & 1 else "00")
