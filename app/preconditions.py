"""`ETag` and `If-Match` (RFC 9110, section 13): a change names the state that it was made from."""

import re
from typing import Annotated, NamedTuple

from fastapi import Depends, Header

from app.errors import IfMatchMissing, Stale

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')
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
    # A weak tag never matches here, says the RFC; neither does what is no tag at all.
    return IfMatch(frozenset(tag for weak, tag in _TAG.findall(if_match) if not weak))


OptionalIfMatch = Annotated[IfMatch | None, Depends(_optional)]


async def _required(if_match: OptionalIfMatch) -> IfMatch:
    if if_match is None:
        raise IfMatchMissing("send the ETag that you read as If-Match, so that nobody's change is lost")
    return if_match


RequiredIfMatch = Annotated[IfMatch, Depends(_required)]
