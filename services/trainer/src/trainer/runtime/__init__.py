"""The program inside an estimator job: `python -m trainer.runtime FOLDER`.

It reads `job.json`, trains with the platform's own code on one thread, and leaves its files and `result.json` in the
folder; `trainer.domain.attempts` says how it speaks with the runner and with the attempt's URL.
"""
