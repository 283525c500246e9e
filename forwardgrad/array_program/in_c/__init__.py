"""An array program as C99."""
