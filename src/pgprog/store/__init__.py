"""The only place that calls SQL functions."""
