"""Long-lived processes on PostgreSQL alone."""
