"""The theory of chapter 5 on enumerated state spaces."""
