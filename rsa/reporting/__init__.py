"""From scores to a report: statistics, figures, Markdown."""
