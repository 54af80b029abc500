"""rich's Console, but for what it does when nobody reads on; and printing a report part by part."""

from collections.abc import Iterable

from rich.console import Console, RenderableType


class PipeSafeConsole(Console):
    """A console that leaves a broken pipe to its caller: rich itself would end the process with 1.

    On stdout that is `featcache report | head`, and the end; on stderr nobody listens, and the work goes on.
    """

    def on_broken_pipe(self) -> None:
        """Called where a write found its reader gone."""
        if not self.stderr:
            raise BrokenPipeError
        self.quiet = True


def print_parts(parts: Iterable[RenderableType], console: Console) -> None:
    """Print the parts of a report, an empty line between them. Styles vanish where the console is no terminal."""
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(part)
