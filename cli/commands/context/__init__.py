"""The commands of ``shiplap context``."""
