from distill.conftest import toy_domain, workspace  # noqa: F401
