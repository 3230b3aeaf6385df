"""The Slicer side of LASegColearn: studies, and the engine as a child process. It never imports torch."""
