"""The suite behind pgbouncer in transaction mode: `make pooler`."""
