"""The OCI distribution protocol: a client (pull, push, login) and a server (``/v2/``). Knows nothing of builds."""
