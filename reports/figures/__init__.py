"""Charts of one run as inline SVG: drawn by matplotlib when the page is made, coloured by the page's style sheet."""
