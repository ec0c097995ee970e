"""Pictures with captions, made on the user's machine.

Belongs here: where they come from, and the folder that a harvest of them is. Reading such a folder
for training is `gemb.data.sources.pictures`.
"""
