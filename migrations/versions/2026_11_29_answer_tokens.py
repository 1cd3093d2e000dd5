"""How long the answers were that a model was trained for. Models of before do not say.

Revision: 2026_11_29_answer_tokens
Follows: 2026_11_23_criterion
"""

import sqlalchemy as sa
from alembic import op

from migrations.tables import may

revision = "2026_11_29_answer_tokens"
down_revision = "2026_11_23_criterion"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model_versions", may("answer_tokens", sa.Integer()))


def downgrade() -> None:
    op.drop_column("model_versions", "answer_tokens")
