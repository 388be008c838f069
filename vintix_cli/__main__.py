"""Where the ``vintix`` command and ``python -m vintix_cli`` begin."""

from __future__ import annotations

import os

_INTERRUPTED = 130


def main() -> None:
    """Run the command line; importing it takes a while, so stop signals are handled before."""
    try:
        from pipelines.signals import end_on_signals
        from vintix_cli.streams import end

        end_on_signals(end)
        from pipelines.hardware import yield_while_waiting

        yield_while_waiting()
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)
    from vintix_cli.app import main as run

    run()


if __name__ == "__main__":
    main()
