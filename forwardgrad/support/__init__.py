"""What everything else builds on: files that are written whole, threads, memory, late imports, plots."""
