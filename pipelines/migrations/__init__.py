"""The schema's history, for Alembic: ``versions/`` holds one file a change, newest last."""
