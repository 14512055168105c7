"""The networks, and fitting one of them."""
