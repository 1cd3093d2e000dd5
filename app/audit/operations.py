"""What each operation of the API is called in the audit trail. The event follows from this declaration, whether or not
the code behind the operation has something to add to it.

What is read by a tenant's own key is no event; what an admin of the platform reads is one, in the trail of whose it is.
"""

from uuid import UUID

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service
from app.audit.service import Act
from app.auth.principal import Principal
from app.infra.db.engine import Database
from app.infra.db.guard import Sight
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction

READ = "platform.read"
ACTIONS: dict[str, str] = {
    "create_tenant": "tenant.created",
    "change_tenant": "tenant.changed",
    "delete_tenant": "tenant.deleted",
    "create_api_key": "api_key.created",
    "revoke_api_key": "api_key.revoked",
    "create_schema": "schema.created",
    "put_schema_draft": "schema.draft_changed",
    "restore_schema_version": "schema.restored",
    "publish_schema": "schema.published",
    "create_dataset": "dataset.created",
    "delete_dataset": "dataset.deleted",
    "put_dataset_content": "dataset.uploaded",
    "take_dataset_content": "dataset.taken",
    "append_conversation": "conversation.appended",
    "delete_conversation": "conversation.deleted",
    "put_conversation_label": "conversation.labelled",
    "give_answer_feedback": "answer.judged",
    "forget_answers": "answers.forgotten",
    "create_run": "run.created",
    "cancel_run": "run.cancelled",
    "retry_run": "run.retried",
    "delete_run": "run.deleted",
    "create_trigger": "trigger.created",
    "change_trigger": "trigger.changed",
    "delete_trigger": "trigger.deleted",
    "start_trigger": "trigger.started",
    "begin_maintenance": "maintenance.begun",
    "end_maintenance": "maintenance.ended",
    "create_gate": "gate.requested",
    "create_deployment": "deployment.requested",
    "roll_back_deployment": "deployment.requested",
}
# What may happen on the way, each an event of its own.
ALSO: dict[str, frozenset[str]] = {
    "give_answer_feedback": frozenset({"dataset.created"}),
    "forget_answers": frozenset({"conversation.deleted"}),
    "start_trigger": frozenset({"run.created"}),
}
# Answers are counted as use; a row for each would be what answering waits for. What is simulated is not done.
NOT_RECORDED = frozenset(
    {
        "classify_conversation",
        "classify_batch",
        "classify_stream",
        "answer_decisions",
        "answer_system_one",
        "simulate_trigger",
    }
)


class Undeclared(RuntimeError):
    """The code behind an operation records something else than the operation declares: a mistake of ours."""


async def record(request: Request, session: AsyncSession) -> None:
    """As the last thing in the transaction of an operation that writes. Raises: Undeclared."""
    caller, operation = _who(request), _operation(request)
    if caller is None or operation is None:
        return
    declared, noted = ACTIONS.get(operation), service.noted(session)
    actions = {act.action for act in noted}
    if actions - {declared} - ALSO.get(operation, frozenset()):
        raise Undeclared(f"{operation} declares {declared} and records {noted}")
    if declared is not None and declared not in actions:
        service.record(session, caller.key_id, _tenant(request), Act(declared, _subject(request)))


async def record_reading(request: Request) -> None:
    """After the transaction of an operation that reads, which writes nothing: in one of its own."""
    caller, operation = _who(request), _operation(request)
    if caller is None or operation is None or not caller.is_platform_admin:
        return
    tenant_id = _tenant(request)
    database: Database = request.app.state.database
    async with transaction(database, None if tenant_id is None else TenantScope(tenant_id)) as session:
        act = Act(READ, _subject(request), {"operation": operation})
        service.record(session, caller.key_id, tenant_id, act)


def _who(request: Request) -> Principal | None:
    caller: Principal | None = getattr(request.state, "caller", None)
    return caller


def _operation(request: Request) -> str | None:
    return getattr(request.scope.get("route"), "operation_id", None)


def _tenant(request: Request) -> UUID | None:
    sight: Sight | None = request.scope.get("state", {}).get("sight")
    named = request.path_params.get("tenant_id")
    if sight is not None and sight.tenant_id is not None:
        return sight.tenant_id
    return None if named is None else UUID(str(named))


def _subject(request: Request) -> str:
    """The last thing that the path names by its id; else the path itself, which then names a kind of things."""
    ids = [(name, value) for name, value in request.path_params.items() if name.endswith("_id")]
    if not ids:
        return getattr(request.scope.get("route"), "path", "")
    name, value = ids[-1]
    return f"{name.removesuffix('_id')}:{value}"
