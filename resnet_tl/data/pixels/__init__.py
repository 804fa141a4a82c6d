"""From the bytes of a file to what the network is given: decoding, preprocessing, the pixel cache, augmentation."""
