"""The database refuses to delete a row of the audit trail, to change a sealed one, and to move the head back."""

from django.db import migrations

TEXT = "the audit trail is append-only"
ENTRY, HEAD = "accounts_auditentry", "accounts_audithead"
# What a row says. Only its place in the chain and its hash are written later, once.
SAID = (
    "id", "at", "actor_id", "actor", "via", "credential", "action", "object_type", "object_id", "object_name", "before",
    "after", "address", "request_id",
)  # fmt: skip
BACK = "NEW.position < OLD.position OR (NEW.position = OLD.position AND NEW.hash <> OLD.hash)"


def sqlite():
    changed = " OR ".join(f'NEW."{name}" IS NOT OLD."{name}"' for name in SAID)
    conditions = {
        ("audit_append_only", "UPDATE", ENTRY): f"OLD.position IS NOT NULL OR {changed}",
        ("audit_no_delete", "DELETE", ENTRY): "1",
        ("audit_head_forward", "UPDATE", HEAD): BACK,
        ("audit_head_no_delete", "DELETE", HEAD): "1",
    }
    yield "DROP TRIGGER audit_append_only"
    for (name, verb, table), condition in conditions.items():
        yield f"CREATE TRIGGER {name} BEFORE {verb} ON {table} WHEN {condition} BEGIN SELECT RAISE(ABORT, '{TEXT}'); END"


def postgresql():
    changed = " OR ".join(
        f'NEW."{name}"::text IS DISTINCT FROM OLD."{name}"::text' for name in SAID
    )
    yield f"DROP TRIGGER audit_append_only ON {ENTRY}"
    yield from (
        f"CREATE TRIGGER audit_append_only BEFORE UPDATE ON {ENTRY} FOR EACH ROW"
        f" WHEN (OLD.position IS NOT NULL OR {changed}) EXECUTE FUNCTION audit_append_only()",
        f"CREATE TRIGGER audit_no_delete BEFORE DELETE OR TRUNCATE ON {ENTRY}"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()",
        f"CREATE TRIGGER audit_head_forward BEFORE UPDATE ON {HEAD} FOR EACH ROW WHEN ({BACK})"
        " EXECUTE FUNCTION audit_append_only()",
        f"CREATE TRIGGER audit_head_no_delete BEFORE DELETE OR TRUNCATE ON {HEAD}"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()",
    )


def guard(apps, schema_editor):
    for statement in {"sqlite": sqlite, "postgresql": postgresql}[schema_editor.connection.vendor]():
        schema_editor.execute(statement, params=None)


def unguard(apps, schema_editor):
    on_postgresql = schema_editor.connection.vendor == "postgresql"

    def drop(name, table):
        schema_editor.execute(f"DROP TRIGGER {name}" + (f" ON {table}" if on_postgresql else ""), params=None)

    drop("audit_no_delete", ENTRY)
    drop("audit_head_no_delete", HEAD)
    drop("audit_head_forward", HEAD)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_identities")]
    operations = [migrations.RunPython(guard, unguard)]
