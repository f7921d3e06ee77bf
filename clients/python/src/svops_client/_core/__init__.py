"""What the client does, without any I/O: generators that ask for effects, which the two drivers carry out."""
