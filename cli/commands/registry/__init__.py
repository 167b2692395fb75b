"""The commands of ``shiplap registry``."""
