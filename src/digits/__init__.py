"""The rooms of the kit: each module does what its name says, and imports only from the layers below it."""
