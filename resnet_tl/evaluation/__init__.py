"""Numbers and pictures from prediction tables; numpy, pandas, scikit-learn and matplotlib, no torch."""
