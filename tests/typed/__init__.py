"""What mypy checks, strictly, as it checks a user's program."""
