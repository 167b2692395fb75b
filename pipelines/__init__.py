"""The service's pipelines: projects, runs, steps, their states in the database, the queue's producer side, log streams.

Knows builds and the registry. Knows neither Flask nor the Celery worker: both stand on this room.
"""
