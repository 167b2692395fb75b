"""Where forges knock, what they may embed, and the thread that tells them how runs went.

``receive``: POST /hooks/PROJECT. ``badge``: GET /badge/PROJECT.svg. ``statuses``: the sender of the outbox. What a
webhook means is ``pipelines.hooks``'; the pages of projects are in ``web.pages``.
"""
