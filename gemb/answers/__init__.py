"""Answers from a person's own documents: their corpus, the prompt of a question, a chat endpoint.

Retrieval is `gemb.inference.passages`; what answers is any language model behind an endpoint.
"""
