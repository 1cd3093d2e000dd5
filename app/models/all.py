"""Every table, for whoever needs them all: migrations, and the foreign keys that name tables of other files."""

from app.db.base import Base
from app.models import auth, datasets, deployments, gates, jobs, records, runs, schemas, tenants

MODULES = (auth, datasets, deployments, gates, jobs, records, runs, schemas, tenants)
METADATA = Base.metadata
