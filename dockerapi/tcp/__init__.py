"""The engine's API over TCP: a process of its own that knows who connects, and joins them to the API's socket as such.

    terms     under which terms one may connect: certificates, tokens of a service
    naming    whom a certificate or a token names, and what a request's head says
    gate      the connections: who it is, then bytes both ways
    keeping   starts the gate's process, and starts it again

The API asks a unix socket who is at its other end. So the gate connects to it with the rights of the user who was
named: what such a user may, and whose engine it is, is decided in one place (``dockerapi.access``). Bytes of strangers
are parsed here, and not where root's engine is.
"""
