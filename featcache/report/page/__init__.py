"""The report as one HTML file that needs no network, no server and, but for sorting and clicking, no JavaScript."""
