"""Stage two: linear heads, and the convex optimum that they are held against."""
