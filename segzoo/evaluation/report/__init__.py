"""An evaluation as one page that opens from the disk, and its plots."""
