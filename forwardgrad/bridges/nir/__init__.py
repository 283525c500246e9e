"""Networks of the Neuromorphic Intermediate Representation (NIR), as declared graphs and back; with the extra `nir`."""

from forwardgrad.bridges.nir.exporting import to_nir
from forwardgrad.bridges.nir.importing import from_nir

__all__ = ["from_nir", "to_nir"]
