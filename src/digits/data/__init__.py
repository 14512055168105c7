"""What is read from and written for a competition."""
