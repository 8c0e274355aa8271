"""Charts of one run as inline SVG, coloured by the page's style sheet."""
