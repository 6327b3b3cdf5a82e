"""Changes to the weights of networks: merges of checkpoints, and LoRAs."""
