"""What is shipped: distributions, their parts, licences and pins."""
