"""The programs, one absl binary per job; run them from the checkout: `python -m bin.probe`."""
