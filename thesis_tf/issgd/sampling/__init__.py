"""The proposal distribution, and the variance of its gradients."""
