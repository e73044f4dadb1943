"""A campaign as a whole: its settings, states, costs and stop."""
