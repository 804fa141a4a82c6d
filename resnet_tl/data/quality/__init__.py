"""What is wrong with a data set: unusable files, duplicates, leakage, class counts, and the page that shows it."""
