"""What each program does behind its flags."""
