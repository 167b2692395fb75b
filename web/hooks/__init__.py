"""The addresses where forges knock, the badge that they may embed, and the thread that sends them runs' statuses.

``receive``: POST /hooks/PROJECT. ``badge``: GET /badge/PROJECT.svg. ``statuses``: the sender of the outbox.
``pipelines.hooks`` decides what a webhook means; ``web.pages`` has the pages of projects.
"""
