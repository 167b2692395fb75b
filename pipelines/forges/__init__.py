"""Forges: their webhooks become events, commit statuses become calls of their API.

One module a forge; ``known`` lists them. No I/O: the request comes as headers and bytes, calls go as data. Nothing in
here knows projects, runs or the database.
"""
