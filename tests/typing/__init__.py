"""The types, as a user meets them."""
