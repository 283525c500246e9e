"""The command line, one file per command. A command is imported when it is asked for."""

from forwardgrad.cli.command_line import main

__all__ = ["main"]
