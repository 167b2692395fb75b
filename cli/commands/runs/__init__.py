"""The commands of ``shiplap runs``."""
