"""The proposal distribution, and the variance of the gradient under it."""
