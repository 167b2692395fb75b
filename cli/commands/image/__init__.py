"""The commands of ``shiplap image``."""
