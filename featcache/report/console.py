"""rich's Console, but for what it does when nobody reads on."""

from rich.console import Console


class Plain(Console):
    """A console that leaves a broken pipe to its caller: rich itself would end the process with 1.

    On stdout that is `featcache report | head`, and the end; on stderr nobody listens, and the work goes on.
    """

    def on_broken_pipe(self) -> None:
        """Called where a write found its reader gone."""
        if not self.stderr:
            raise BrokenPipeError
        self.quiet = True
