"""What the importance-sampling programs do behind their flags."""
