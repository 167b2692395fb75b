"""The Celery worker: takes runs from the queue and builds them; leases, cancellation, the reaper, the shared cache."""
