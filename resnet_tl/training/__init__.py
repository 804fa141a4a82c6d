"""The LightningModule and the callbacks of a fit."""
