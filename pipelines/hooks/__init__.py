"""Webhooks, from what a forge sent to runs, and from runs to the statuses of commits.

- ``settings``, ``checking``, ``filters``, ``addresses``: what a project wants built, and of which repository.
- ``planning``: what is to be done about an event; pure.
- ``receiving``: takes a request, checks it, writes the delivery and its runs in one transaction.
- ``deliveries``, ``approvals``: what was received, and what waits for somebody to look at it.
- ``outbox``, ``sending``, ``transport``: commit statuses.
- ``history``: how a project's runs went, for badges and charts.

HTTP to receive and show all this is ``web``'s.
"""
