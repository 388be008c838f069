from distill.conftest import toy_domain, toy_workspace, workspace  # noqa: F401
