"""The commands of ``shiplap ci``."""
