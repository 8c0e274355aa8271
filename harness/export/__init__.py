"""A finished run, handed to what people already use: trackers, model cards, benchmark charts.

Only numbers leave: no prompt, reference or reply. Nothing is sent anywhere but to the place that the user names.
"""
