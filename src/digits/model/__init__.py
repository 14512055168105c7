"""The networks, and training one of them."""
