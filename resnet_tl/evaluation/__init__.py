"""Numbers and pictures from prediction tables; numpy, pandas, scipy and matplotlib, no torch."""
