"""The parts of the train stage, from job.py (all that decides a training) to fit.py (the training itself)."""
