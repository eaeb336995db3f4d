"""A store in Redis or Redis Cluster."""
