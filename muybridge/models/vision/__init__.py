"""What is seen in pictures: structure, depth, flow, features, and the frame between two."""
