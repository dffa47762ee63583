"""Knowledge of datastores: their positions (pure, ``positions``), used by instrumentation, proxy and
monitors alike, so that all three judge a replica by the very same rules."""
