"""What a run is on disk, and arithmetic on it."""
