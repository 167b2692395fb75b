"""The commands about containers, by name: they stand at the top and in ``container``."""

from __future__ import annotations

from typing import Final

from cli.lazy import LazyCommand

COMMANDS: Final = {
    "run": LazyCommand("cli.commands.run", "Run a command in a new container."),
    "create": LazyCommand("cli.commands.create", "Make a container, and do not start it."),
    "start": LazyCommand("cli.commands.start", "Start containers."),
    "stop": LazyCommand("cli.commands.stop", "Stop containers: by their stop signal, then SIGKILL."),
    "restart": LazyCommand("cli.commands.restart", "Stop containers, and start them again."),
    "kill": LazyCommand("cli.commands.kill", "Send a signal to the first process of containers."),
    "pause": LazyCommand("cli.commands.pause", "Freeze all processes of containers."),
    "unpause": LazyCommand("cli.commands.unpause", "Let the processes of paused containers go on."),
    "rm": LazyCommand("cli.commands.rm", "Remove containers, with what they wrote."),
    "ps": LazyCommand("cli.commands.ps", "List containers."),
    "logs": LazyCommand("cli.commands.logs", "Show what a container wrote."),
    "exec": LazyCommand("cli.commands.exec", "Run a command in a running container."),
    "attach": LazyCommand(
        "cli.commands.attach", "Attach this terminal's input and output to a running container."
    ),
    "top": LazyCommand("cli.commands.top", "Show the processes of a container, as the host's ps sees them."),
    "stats": LazyCommand("cli.commands.stats", "Show what containers use: processors, memory, network, disk."),
    "port": LazyCommand(
        "cli.commands.port", "Show the ports that a container publishes, or where one of them is published."
    ),
    "diff": LazyCommand("cli.commands.diff", "Show what a container changed in its root file system."),
    "cp": LazyCommand("cli.commands.cp", "Copy files out of a container, or into one."),
    "export": LazyCommand("cli.commands.export", "Write a container's root file system as a tar."),
    "commit": LazyCommand("cli.commands.commit", "Make an image of what a container is now."),
    "wait": LazyCommand("cli.commands.wait", "Wait until containers have ended, and print their exit codes."),
    "rename": LazyCommand("cli.commands.rename", "Give a container another name."),
    "update": LazyCommand(
        "cli.commands.update", "Change the limits and the restart policy of containers, also while they run."
    ),
}  # fmt: skip
