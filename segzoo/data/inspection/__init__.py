"""Tools that look at data before and without training: `check-data`, `browse-data`, `make-config`.

On top of the other rooms of `segzoo.data`; only the first look of every run (`quick`) is called from outside a command.
"""
