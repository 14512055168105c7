"""The kit: each module does what its name says, and imports only from its own package and those before it."""
