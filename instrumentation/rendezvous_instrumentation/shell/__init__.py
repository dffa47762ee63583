"""What acts inside the application: the context variable, the channel, the statistics, the generic
wrappers around calls, entries and reads. Everything here starts at the first event, never at import."""
