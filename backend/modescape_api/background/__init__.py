"""What goes on between requests: the poller of events, downloads, looks through pictures."""
