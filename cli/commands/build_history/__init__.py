"""``shiplap build history``: what builds on this machine were. A module for each command."""
