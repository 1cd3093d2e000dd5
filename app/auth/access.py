"""What an operation asks of its caller. Its dependencies declare it, `app.auth.route` checks it, and the OpenAPI
document shows it: one declaration for all three.
"""

from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from typing import Any, NamedTuple, TypeVar

from fastapi.dependencies.models import Dependant

from app.auth.principal import Principal, Scope
from app.errors import Forbidden

F = TypeVar("F", bound=Callable[..., Any])


class Access(NamedTuple):
    """scopes: all of them are needed; none: any key will do.

    of_platform: an admin of the platform alone. cached: a key that was checked within the last second is not
    looked up again, which would cost more than all the rest of an answer that is ours; one that was revoked is refused
    a second later.
    """

    scopes: frozenset[Scope] = frozenset()
    of_platform: bool = False
    cached: bool = False

    def check(self, caller: Principal) -> None:
        """Raises: Forbidden."""
        if self.of_platform and not caller.is_platform_admin:
            raise Forbidden("only an admin of the platform may do this")
        if not caller.may(self.scopes):
            raise Forbidden(f"this needs a key with the scope {' and '.join(sorted(self.scopes))}")


_declared: dict[Callable[..., Any], Access | None] = {}


def declares(access: Access) -> Callable[[F], F]:
    """Of a dependency: every operation that takes it asks for this."""

    def declared(dependency: F) -> F:
        _declared[dependency] = access
        return dependency

    return declared


@cache
def needs(*scopes: Scope) -> Callable[[], Awaitable[None]]:
    """`dependencies=[Depends(needs(Scope.tenant_read))]` of an operation that is not about one tenant's rows. Without
    scopes any key will do.
    """

    @declares(Access(frozenset(scopes)))
    async def needed() -> None:
        pass

    return needed


async def no_key() -> None:
    """`dependencies=[Depends(no_key)]` of an operation that is open to everybody."""


_declared[no_key] = None


def access_of(operation: Dependant) -> Access | None:
    """All that its dependencies declare, together. None: it is open to everybody. Raises: TypeError where none does."""
    found = list(_found(operation))
    asked = [access for access in found if access is not None]
    if not found or (asked and len(asked) < len(found)):
        raise TypeError(
            f"{operation.path} must declare its scopes (tenant_scope), or that it needs no key (no_key)"
        )
    if not asked:
        return None
    return Access(
        frozenset().union(*(access.scopes for access in asked)),
        any(access.of_platform for access in asked),
        any(access.cached for access in asked),
    )


def _found(dependant: Dependant) -> Iterator[Access | None]:
    if dependant.call in _declared:
        yield _declared[dependant.call]
    for inner in dependant.dependencies:
        yield from _found(inner)
