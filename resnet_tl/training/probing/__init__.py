"""What frozen features say before anything trains: of networks, of more images, of labels."""
