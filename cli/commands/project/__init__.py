"""The commands of ``shiplap project``."""
