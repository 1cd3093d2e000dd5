"""What a version calls for each table it makes, beyond its columns: whose rows they are, and that they stay."""

from collections.abc import Sequence

from alembic import op
from sqlalchemy import Connection, text

# Both settings hold for one transaction and are set by app/infra/db/guard.py. An empty one names no tenant.
_OWN = "{column} = NULLIF(current_setting('app.tenant_id', true), '')::uuid"
_PLATFORM = "current_setting('app.platform', true) = 'on'"
_FUNCTION = "is_platform_role"
_REFUSE = """
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$
"""
_REFUSAL_OF_ROWS = (
    "CREATE TRIGGER {table}_stays_row BEFORE UPDATE OR DELETE ON {table} "
    "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
)
_REFUSAL = "BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"


def on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def isolate(table: str, column: str = "tenant_id") -> None:
    """Rows are seen and written by their tenant and by the platform alone; FORCE: by the table's owner too."""
    if not on_postgresql():
        return  # app/infra/db/guard.py does it
    rule = _rule(column, by_role=op.get_bind().scalar(text(f"SELECT to_regproc('{_FUNCTION}')")) is not None)
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY of_tenant ON {table} USING {rule} WITH CHECK {rule}")


def _rule(column: str, *, by_role: bool) -> str:
    platform = f"({_PLATFORM} AND {_FUNCTION}())" if by_role else _PLATFORM
    return f"({_OWN.format(column=column)} OR {platform})"


def isolate_by_role() -> None:
    """From here on the setting for the platform means something for its roles only; see `set_platform_roles`."""
    if on_postgresql():
        bind = op.get_bind()
        set_platform_roles(bind, [str(bind.scalar(text("SELECT current_user")))])
        _change_policies(by_role=True)


def isolate_by_setting() -> None:
    if on_postgresql():
        _change_policies(by_role=False)
        op.execute(f"DROP FUNCTION {_FUNCTION}()")


def _change_policies(*, by_role: bool) -> None:
    tables = op.get_bind().scalars(text("SELECT tablename FROM pg_policies WHERE policyname = 'of_tenant'"))
    for table in list(tables):
        rule = _rule("id" if table == "tenants" else "tenant_id", by_role=by_role)
        op.execute(f"ALTER POLICY of_tenant ON {table} USING {rule} WITH CHECK {rule}")


def set_platform_roles(connection: Connection, roles: Sequence[str]) -> None:
    """Who may see every tenant: their names stand in a function that only the tables' owner can replace."""
    names = ", ".join("'" + role.replace("'", "''") + "'" for role in roles)
    connection.exec_driver_sql(
        f"CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS boolean LANGUAGE sql STABLE "
        f"AS $body$ SELECT current_user::text = ANY (ARRAY[{names}]) $body$"
    )


def append_only(table: str) -> None:
    if on_postgresql():
        op.execute(_REFUSE)
        op.execute(_REFUSAL_OF_ROWS.format(table=table))
        op.execute(
            f"CREATE TRIGGER {table}_stays_statement BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    refusal = _REFUSAL.format(table=table)
    op.execute(f"CREATE TRIGGER {table}_stays_update BEFORE UPDATE ON {table} {refusal}")
    op.execute(f"CREATE TRIGGER {table}_stays_delete BEFORE DELETE ON {table} {refusal}")
    # INSERT OR REPLACE deletes without asking the trigger above.
    known = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id)"
    op.execute(f"CREATE TRIGGER {table}_stays_insert BEFORE INSERT ON {table} {known} {refusal}")


def only_removed(table: str) -> None:
    """Of one that was append-only: from now on its rows may go, with what they tell of, and still not change."""
    if on_postgresql():
        op.execute(f"DROP TRIGGER {table}_stays_row ON {table}")
        op.execute(
            f"CREATE TRIGGER {table}_stays_row BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
    else:
        op.execute(f"DROP TRIGGER {table}_stays_delete")


def append_only_again(table: str) -> None:
    """Takes `only_removed` back."""
    if on_postgresql():
        op.execute(f"DROP TRIGGER {table}_stays_row ON {table}")
        op.execute(_REFUSAL_OF_ROWS.format(table=table))
    else:
        op.execute(
            f"CREATE TRIGGER {table}_stays_delete BEFORE DELETE ON {table} {_REFUSAL.format(table=table)}"
        )


def drop_refusal() -> None:
    """Of the function behind `append_only`, when no table needs it any more."""
    if on_postgresql():
        op.execute("DROP FUNCTION refuse_change()")
