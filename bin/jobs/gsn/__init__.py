"""The implementation of `bin.gsn`."""
