"""What only the book's pages call: tables, figures, explorers, verdicts, and what the theory chapters try."""
