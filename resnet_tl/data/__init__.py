"""From files of images to batches; knows nothing of networks."""
