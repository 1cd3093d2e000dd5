"""On PostgreSQL a role of its own sees every tenant: the application's cannot make itself one by a setting.

Revision: 2026_11_29_platform_role
Follows: 2026_11_29_maintenance
"""

from migrations.protection import isolate_by_role, isolate_by_setting

revision = "2026_11_29_platform_role"
down_revision = "2026_11_29_maintenance"
branch_labels = None
depends_on = None


def upgrade() -> None:
    isolate_by_role()


def downgrade() -> None:
    isolate_by_setting()
