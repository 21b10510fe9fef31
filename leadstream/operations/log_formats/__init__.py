"""The formats of access logs: one small pure parser each, behind one table (`formats.FORMATS`)."""
