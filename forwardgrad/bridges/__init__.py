"""Bridges: the library under the interfaces of other libraries; each needs an extra of its own."""
