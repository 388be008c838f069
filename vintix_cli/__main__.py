"""``python -m vintix_cli``."""

from vintix_cli.app import main

# Worker processes import this module under another name.
if __name__ == "__main__":
    main()
