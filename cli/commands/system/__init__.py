"""The commands of ``shiplap system``, a module each; ``group`` puts them together."""
