"""Recommendation: baselines, a recommender that retrieves, filters and falls back."""
