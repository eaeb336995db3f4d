"""What `bin.gsn` does behind its flags."""
