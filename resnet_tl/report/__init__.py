"""Pages that show what runs hold: one HTML file that needs nothing else, made without torch."""
