"""The course's pictures: one style, one palette, alt text on every figure."""
