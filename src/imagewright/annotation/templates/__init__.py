"""Pages of the annotation server, as jinja2 templates."""
