"""The commands of ``shiplap cache``."""
