from __future__ import annotations

from cli.fixtures import (  # noqa: F401 - fixtures
    empty,
    faulty,
    faulty_site,
    gallery,
    gallery_shell,
    prepared,
    shell,
    site,
)
