"""From what lies on disk to an index: layouts, tables, archives, known data sets."""
