"""The agent for local processes: takes their events, keeps them until the server has them."""
