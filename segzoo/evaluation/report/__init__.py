"""report.html of an evaluation, and the plots beside it; imports `evaluation.results` and what is below `evaluation`.

`write` fills the template with what every task shows, `task_pages` says what each task adds; `pictures` and `plots`
make images and curves of numbers.
"""
