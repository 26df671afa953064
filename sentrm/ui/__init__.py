"""The app: the heatmap component, the charts, the look, and one file per page."""
