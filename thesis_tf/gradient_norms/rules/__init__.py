"""Rules for the per-example gradients of Keras' layers."""
