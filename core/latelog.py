"""A logger for code that short commands load and that hardly ever logs: ``logging`` itself takes 3 ms to load."""

from __future__ import annotations


class LateLogger:
    """The logger of this name, looked up when it has something to say."""

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, text: str, *values: object) -> None:
        import logging

        logging.getLogger(self._name).info(text, *values)

    def warning(self, text: str, *values: object) -> None:
        import logging

        logging.getLogger(self._name).warning(text, *values)
