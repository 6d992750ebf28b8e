"""Pictures, tables and the HTML page that show results to people."""
