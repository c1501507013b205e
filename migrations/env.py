"""How Alembic reaches the database: on the connection `modescape.database` hands over, or, for developers who use the
`alembic` command, on the one MODESCAPE_DATABASE_URL names."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from modescape.tables import Base


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        include_name=lambda name, kind, parents: not (name or "").startswith("experiment_text"),  # SQLite's own tables
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    from modescape.database import open_database
    from modescape.settings import Settings

    engine = open_database(Settings().database).execution_options(sqlite_begin="IMMEDIATE")
    with engine.begin() as own:
        run(own)
