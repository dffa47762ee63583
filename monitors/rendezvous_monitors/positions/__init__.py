"""One module per datastore, pure: how to ask for head and applied position, how to read the answer,
and whether an applied position covers a wanted one."""
