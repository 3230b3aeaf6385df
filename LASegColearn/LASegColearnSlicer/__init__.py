"""The Slicer side of LASegColearn: studies, the engine as a child process. It imports torch nowhere."""
