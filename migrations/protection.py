"""What a version calls for each table it makes, beyond its columns: whose rows they are, and that they stay."""

from alembic import op

# Both settings hold for one transaction and are set by app/infra/db/guard.py. An empty one names no tenant.
_OWN = "{column} = NULLIF(current_setting('app.tenant_id', true), '')::uuid"
_PLATFORM = "current_setting('app.platform', true) = 'on'"
_REFUSE = """
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$
"""


def on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def isolate(table: str, column: str = "tenant_id") -> None:
    """Rows are seen and written by their tenant and by the platform alone; FORCE: by the table's owner too."""
    if not on_postgresql():
        return  # app/infra/db/guard.py does it
    rule = f"({_OWN.format(column=column)} OR {_PLATFORM})"
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY of_tenant ON {table} USING {rule} WITH CHECK {rule}")


def append_only(table: str) -> None:
    if on_postgresql():
        op.execute(_REFUSE)
        for events, each in (("UPDATE OR DELETE", "ROW"), ("TRUNCATE", "STATEMENT")):
            op.execute(
                f"CREATE TRIGGER {table}_stays_{each.lower()} BEFORE {events} ON {table} "
                f"FOR EACH {each} EXECUTE FUNCTION refuse_change()"
            )
        return
    refusal = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    op.execute(f"CREATE TRIGGER {table}_stays_update BEFORE UPDATE ON {table} {refusal}")
    op.execute(f"CREATE TRIGGER {table}_stays_delete BEFORE DELETE ON {table} {refusal}")
    # INSERT OR REPLACE deletes without asking the trigger above.
    known = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id)"
    op.execute(f"CREATE TRIGGER {table}_stays_insert BEFORE INSERT ON {table} {known} {refusal}")


def drop_refusal() -> None:
    """Of the function behind `append_only`, when no table needs it any more."""
    if on_postgresql():
        op.execute("DROP FUNCTION refuse_change()")
