"""Learn: the survey's equations with sliders; each moves the plot, the frames and the formula together."""
