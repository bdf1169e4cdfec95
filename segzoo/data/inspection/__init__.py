"""Tools that look at data before and without training: `check-data`, `browse-data`, `make-config`.

On top of the other rooms of `segzoo.data`; only `check.quick_check`, the first look of every run, is called from
outside a command.
"""
