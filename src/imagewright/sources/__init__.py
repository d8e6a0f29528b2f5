"""Where raw samples come from: composed scenes, packaged emoji, typeset posters, and what the user brings."""
