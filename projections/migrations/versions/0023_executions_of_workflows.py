"""An index of what each workflow did, so that one workflow's executions are found without reading all of the tenant's."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.create_index(
        "workflow_executions_workflow", "workflow_executions", ["tenant", "workflow_id", "at", "execution_id"]
    )
