"""`ETag` and `If-Match` (RFC 9110, section 13): a change names the state that it was made from."""

import re
from typing import Annotated, NamedTuple

from fastapi import Depends, Header

from app.errors import IfMatchMissing, InvalidRequest, Problem, Stale

_TAG = re.compile(r'"([\x21\x23-\x7e]*)"')
_TAGS = re.compile(rf"\s*{_TAG.pattern}\s*(?:,\s*{_TAG.pattern}\s*)*")
_DESCRIPTION = 'The ETag that was read, as `"7"`; `*` means: whatever is there.'


class IfMatch(NamedTuple):
    """tags: None stands for `*`."""

    tags: frozenset[str] | None

    def check(self, revision: int) -> None:
        """Raises: Stale."""
        if self.tags is not None and str(revision) not in self.tags:
            raise Stale(f"it has changed since: the current ETag is {etag(revision)}; read it and try again")


def etag(revision: int) -> str:
    return f'"{revision}"'


async def _optional(
    if_match: Annotated[
        str | None, Header(description=_DESCRIPTION, max_length=1000, examples=['"7"'])
    ] = None,
) -> IfMatch | None:
    if if_match is None:
        return None
    if if_match.strip() == "*":
        return IfMatch(None)
    if _TAGS.fullmatch(if_match) is None:
        # To say that it does not match would be untrue, and reading again would not help. Weak tags never match.
        reason = 'must be the ETag as it was read, in quotation marks and without W/, as "7", or *'
        raise InvalidRequest(f"If-Match {reason}", problems=[Problem("header.if-match", reason)])
    return IfMatch(frozenset(_TAG.findall(if_match)))


OptionalIfMatch = Annotated[IfMatch | None, Depends(_optional)]


async def _required(if_match: OptionalIfMatch) -> IfMatch:
    if if_match is None:
        raise IfMatchMissing("send the ETag that you read as If-Match, so that nobody's change is lost")
    return if_match


RequiredIfMatch = Annotated[IfMatch, Depends(_required)]
