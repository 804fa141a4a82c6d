"""Programs that use an exported model without resnet-tl: written beside it, for others to copy from."""
