"""The comparison that the book reports, and what its pages call: tables, figures, explorers, verdicts."""
