"""How fast is a program of ours beside its peers? Timings in one run, after a check that the gradients agree.

    python -m benchmarks            # every case
    python -m benchmarks --growth   # how our time grows with size, length, batch, block and depth
    python -m benchmarks --compile  # how long it takes to compile graphs
    python -m benchmarks --parts    # where the time of our gradients goes

The peers are an extra: `pip install "forwardgrad[bench]"`.
"""
