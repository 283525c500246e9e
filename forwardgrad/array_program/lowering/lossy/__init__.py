"""Layouts that lose something: what of an influence is compressed at the end of a block, as instructions."""
