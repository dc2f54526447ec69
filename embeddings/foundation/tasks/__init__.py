"""One model, several tasks: each task a small object, all of them low-rank experts on one body that stays as it is.

`task` says what a task is, a file each is one; `experts` are what they share and what they do not; `scheduler`
decides whose turn it is, `merging` which moment of the training is kept, `training` is the loop.
"""
