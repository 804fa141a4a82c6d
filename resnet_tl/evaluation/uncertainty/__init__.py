"""How far a model may be believed: calibrated probabilities, sets of classes, abstentions, unfamiliar images."""
