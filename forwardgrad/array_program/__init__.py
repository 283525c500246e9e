"""The array program: a derived rule as functions over arrays, which NumPy source, price and text are readings of."""
