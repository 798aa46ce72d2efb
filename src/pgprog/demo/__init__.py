"""The demo: real documents, each carried by a long-lived process into a full-text table."""
