"""The thesis computed again: figures and tables (`chapters`), and what runs and reports them."""
