"""The service's HTTP: REST API, log streams, registry. Needs no root and never touches ``containers``."""
