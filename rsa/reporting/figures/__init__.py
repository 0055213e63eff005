"""The figures of a report, as SVG files that follow the reader's light or dark theme."""
