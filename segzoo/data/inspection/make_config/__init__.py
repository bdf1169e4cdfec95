"""From a folder of images and masks to a configuration that trains on them."""
