"""Access to Keras models: losses, parameters, recorded calls, batches."""
