"""What Slicer has and its wheel lacks: Qt as PythonQt shows it, ctk and qMRML widgets, the base classes of modules.

As small as the extension's needs, and strict: an attribute, signal or slot that the real class lacks raises.
"""
