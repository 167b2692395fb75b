"""Says on standard error that a server is away, and that it answers again."""

from __future__ import annotations

from cli.guarding import say


class PlainOnlooker:
    """Prints what is not part of a log."""

    def away(self, text: str) -> None:
        say(f"warning: {text}")

    def back(self) -> None:
        say("the service answers again")
