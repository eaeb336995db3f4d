"""The density that a reconstruction function implies."""
