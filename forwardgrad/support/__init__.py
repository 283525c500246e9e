"""What all the rest stands on: files that are written whole, threads, memory, late imports, plots."""
