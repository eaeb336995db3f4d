"""The programs, one absl binary a job; run them from the checkout: `python -m bin.probe`."""
