"""What a fit leaves besides its predictions, so that a report can say how good they are and what they come from."""
