"""The gradient without the compiler: reverse accumulation over the graph unrolled in time, and finite differences.

The oracle is the reference that compiled programs are compared with. It shares no code with `compiler` and `backends`,
and with programs only what makes one argument an array of numbers, so that both take and refuse the same. It is kept
plain: every weight is a dense matrix, and every local Jacobian is a dense matrix per sample.
"""

from forwardgrad.oracle.accumulation import reverse
from forwardgrad.oracle.differences import directional_derivative, finite_difference
from forwardgrad.oracle.evaluation import OracleResult, forward

__all__ = ["OracleResult", "directional_derivative", "finite_difference", "forward", "reverse"]
