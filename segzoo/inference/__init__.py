"""Trained networks at work on images and folders."""
