"""From data to a submission."""
