"""What a study file may say, and the words of its errors."""
