"""What the client is raced against: one file per library, each with its `Peer`."""
