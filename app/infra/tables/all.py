"""Every table, for whoever needs them all: migrations, and the foreign keys that name tables of other files."""

from app.infra.db.base import Base
from app.infra.tables import (
    answers,
    auth,
    datasets,
    deployments,
    files,
    gates,
    jobs,
    processes,
    records,
    runs,
    schemas,
    tenants,
    triggers,
)

MODULES = (
    answers,
    auth,
    datasets,
    deployments,
    files,
    gates,
    jobs,
    processes,
    records,
    runs,
    schemas,
    tenants,
    triggers,
)
METADATA = Base.metadata
