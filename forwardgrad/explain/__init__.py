"""What a derived algorithm says, in words and in mathematics."""
