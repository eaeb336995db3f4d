"""Threads that exchange weights and parameters with a store while training goes on."""
