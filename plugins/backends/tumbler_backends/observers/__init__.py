"""First-party observers: the metrics journal, the progress display and the report."""
