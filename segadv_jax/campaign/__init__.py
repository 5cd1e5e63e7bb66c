"""Campaigns: arms x seeds as processes that can be resumed, and what they say."""
