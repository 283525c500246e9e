"""forwardgrad: compile a declared recurrent graph into an online learning algorithm."""
