from distill.conftest import shared, toy_domain, toy_workspace, workspace  # noqa: F401
