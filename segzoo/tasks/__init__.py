"""What is trained and how it is measured."""
