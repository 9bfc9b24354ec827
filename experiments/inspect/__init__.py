"""What a finished run's numbers hide; the command is in __main__.py."""
