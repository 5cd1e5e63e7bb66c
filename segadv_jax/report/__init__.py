"""The pages that tell what runs arrived at, and the figures that the paper prints."""
