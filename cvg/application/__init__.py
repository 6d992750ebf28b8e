"""The application in the browser: its pages, and what they do. Gradio is imported by the pages alone."""
